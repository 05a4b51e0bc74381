"""Nothing but the held-out examples: the control of a method that looks at them."""
