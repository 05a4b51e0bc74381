"""Grafana dashboards, written from code: `python -m deploy.grafana`."""
