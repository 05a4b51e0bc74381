"""Break the product on purpose and see whether a test notices: `make mutants`.

Two things are tried, each in a copy of the tree, one change and one run of pytest at a time:

- `checks.py`: every check that answers an attack is taken out; the test named beside it must fail.
- `mutants.py`: every comparison, boolean operator and small number of `ravan/secagg` is changed a
  little; the module's tests must fail. What may survive stands in `equivalents.toml` with the reason.

Own code, since general tools change every string as well and keep no list of survivors with reasons.
"""
