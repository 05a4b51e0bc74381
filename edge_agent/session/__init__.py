"""The agent's conversation with the coordinator: a machine that decides, and the shell that does."""
