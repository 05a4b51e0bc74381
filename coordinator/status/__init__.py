"""The status page: facts read from the records, and their picture as HTML without scripts."""
