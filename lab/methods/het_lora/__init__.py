"""HetLoRA: clients of different ranks, padded with zeros (Cho et al. 2024, arXiv 2401.06432)."""
