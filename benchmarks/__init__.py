"""Measurements of the figures that the product promises; run by `make bench`, never by the tests."""
