"""LoRA whose factors take turns, so that a round's mean is exact and both sides follow the gradient."""
