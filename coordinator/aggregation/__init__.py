"""From staged payloads to the next model version: unmask, publish the sums, add the mean deltas."""
