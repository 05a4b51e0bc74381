"""Each method in a folder of its own: what clients train and upload, and what the server makes of it."""
