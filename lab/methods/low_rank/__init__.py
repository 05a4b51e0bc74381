"""LoRA layers, and what all methods that train them have in common."""
