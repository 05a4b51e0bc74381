"""What the coordinator remembers: records in a database, blobs in a folder named by content."""
