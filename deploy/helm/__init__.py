"""The chart for Kubernetes, and what it repeats from elsewhere: `python -m deploy.helm`."""
