"""The site's own data: read from its file, tokenised in memory, dealt out in batches. Nothing of it is sent."""
