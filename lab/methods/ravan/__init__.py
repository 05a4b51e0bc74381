"""The product's own method, by the product's own code."""
