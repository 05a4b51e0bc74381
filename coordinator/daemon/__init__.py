"""The daemon: one process that leads or follows, its ports, and who answers which call."""
