"""Who trains which heads in a round, and how far each block may move: pure functions over reports."""
