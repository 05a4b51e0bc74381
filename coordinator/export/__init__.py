"""Committed versions as files for use elsewhere."""
