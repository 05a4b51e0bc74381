"""What left this PC: one line before an update goes out, one after, and what became of it."""
