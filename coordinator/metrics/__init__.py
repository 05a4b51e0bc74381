"""What the coordinator tells Prometheus and whoever opens its status page."""
