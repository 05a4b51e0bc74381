"""The PC's identity: its keys on disk, how they are enrolled, and who may use them at a time."""
