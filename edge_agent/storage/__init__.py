"""What the agent keeps on the PC's disk, and how much of it."""
