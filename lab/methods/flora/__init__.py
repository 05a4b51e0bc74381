"""FLoRA: the clients' factors are stacked, so that their sum is exact (Wang et al. 2024, arXiv 2409.05976)."""
