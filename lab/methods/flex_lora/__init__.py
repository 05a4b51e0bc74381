"""FlexLoRA: the mean product, cut to each client's rank (Bai et al. 2024, arXiv 2402.11505)."""
