"""Blobs named by their SHA-256."""
