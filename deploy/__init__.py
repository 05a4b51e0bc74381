"""What surrounds the product: the demo, and the files that deployments start from."""
