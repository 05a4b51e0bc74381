"""`python -m fuzz.replay TARGET FILE...`: read inputs again without the fuzzer, so that a debugger can follow."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzz.targets import TARGETS


def main() -> None:
    """Read each file and say whether it was sound; what breaks a reader ends the program with its traceback."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.replay", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    options = parser.parse_args()
    for path in options.files:
        data = path.read_bytes()
        print(f"{path}: read as {TARGETS[options.target].format_of(data).name} ...", flush=True)
        print("  sound" if TARGETS[options.target].accepts(data) else "  refused as documented")


if __name__ == "__main__":
    main()
