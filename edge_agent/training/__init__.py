"""Local training of one round: the base model, its heads, and what training changed."""
