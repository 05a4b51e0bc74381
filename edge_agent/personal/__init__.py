"""Heads of the plant's own, trained on its own data on top of the shared ones. They stay on the PC."""
