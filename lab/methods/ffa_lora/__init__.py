"""FFA-LoRA: A stays as drawn, B alone is trained (Sun et al. 2024, arXiv 2403.12313)."""
