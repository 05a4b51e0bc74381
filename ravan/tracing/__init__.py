"""Traces of rounds: one tree of spans that coordinator and agents write without a word between them."""
