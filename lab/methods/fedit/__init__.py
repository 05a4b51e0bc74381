"""FedIT: both factors averaged apart (Zhang et al. 2023, arXiv 2305.05644)."""
