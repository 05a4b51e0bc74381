"""The process that holds libraries, model and data: what ends it does not end the agent, and it never sees a key."""
