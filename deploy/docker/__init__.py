"""Images of the coordinator and the agent, and the hashes of what goes into them."""
