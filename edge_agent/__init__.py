"""The edge agent: trains on a factory PC, on data that never leaves it."""
