"""Single site: every client trains for itself, and none learns from another."""
