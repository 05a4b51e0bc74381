"""Ravan whose bases move: heads are folded into the weights for good, and new ones opened along the gradient."""
