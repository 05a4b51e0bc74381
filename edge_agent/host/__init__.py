"""The PC that the agent is a guest on: when training has to stand aside, and how it does."""
