"""The Ravan method: fixed bases from a seed, trained cores, and what they do to a model's linear layers.

`basis`, `budget`, `state`, `targets` and `export` work on numpy alone, so that the coordinator's daemon can
import them without torch; `algebra`, `arithmetic`, `int8`, `layer`, `model`, `narrow` and `precision` need torch.
"""
