"""FedEx-LoRA: FedIT, and what it leaves out goes into the weights (Singhal et al. 2024, arXiv 2410.09432)."""
