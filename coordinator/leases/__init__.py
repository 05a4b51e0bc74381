"""Who may lead the rounds, and who may do a piece of work, for how long: leases with fencing numbers."""
