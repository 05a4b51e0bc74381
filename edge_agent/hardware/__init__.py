"""What the PC has and what a job costs on it: limits, memory in use, and measurements on the actual model."""
