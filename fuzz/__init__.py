"""Fuzz targets for everything that reads what a peer sent: any bytes are read or refused as documented.

Targets are plain functions of bytes and need no fuzzer: `tests/fuzz` replays the corpus through them.
`engine` alone knows atheris. `make fuzz` runs every target in turn; `corpus/` holds what is worth keeping.
"""
