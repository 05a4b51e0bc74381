"""A run of a plan as the product does it: a coordinator and agents, to be held against the simulator's figure."""
