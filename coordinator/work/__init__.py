"""The heavy work of rounds as tasks in the database: put by whoever leads, done by any process, adopted once."""
