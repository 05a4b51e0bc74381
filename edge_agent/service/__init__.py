"""The agent as a service of the PC: what it tells the service manager, and how it is installed there."""
