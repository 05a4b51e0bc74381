"""What the plant has of it: the newest committed version of each job, kept on this PC and used without a network."""
