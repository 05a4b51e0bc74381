"""Backups: one archive of records and blobs, and putting a coordinator back to it."""
