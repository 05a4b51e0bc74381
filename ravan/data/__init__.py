"""Data files: the one reader that sites use for training and headquarters for evaluation."""
