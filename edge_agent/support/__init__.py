"""What a plant may hand to whoever helps it: how the PC and the agent are, and nothing of data, keys or passwords."""
