"""The site's part in secure aggregation: from a round's deltas to a masked payload on disk, and back to nothing."""
