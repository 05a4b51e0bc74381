"""`python -m fuzz.minimise`: bring the committed corpus up to what the gathered one reaches, in few small files."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Final

from fuzz.places import COMMITTED, FINDINGS, FOUND, GATHERED, committed_inputs, write_seeds
from fuzz.running import run_engine
from fuzz.target import Target
from fuzz.targets import TARGETS

_MOST_FILES: Final = 30
_LONGEST_BYTES: Final = 4096


def main() -> None:
    """Minimise the corpus of every target, or of the named ones."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.minimise", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=list(TARGETS))
    for name in parser.parse_args().targets:
        count, size = _minimise(TARGETS[name])
        print(f"{name}: {count} files, {size:,} bytes", flush=True)


def _minimise(target: Target) -> tuple[int, int]:
    write_seeds(target, GATHERED / target.name)
    with tempfile.TemporaryDirectory() as folder:
        merged = Path(folder)
        arguments = ["-set_cover_merge=1", f"-max_len={_LONGEST_BYTES}"]
        FINDINGS.mkdir(exist_ok=True)
        status = run_engine(target, FINDINGS / f"{target.name}.log", arguments, merged, GATHERED / target.name)
        # short inputs are refused early; the long ones among the chosen reach deepest
        chosen = sorted(merged.iterdir(), key=lambda path: path.stat().st_size, reverse=True)[:_MOST_FILES]
        if status or not chosen:
            raise SystemExit(f"The corpus of {target.name} stays as it was; {FINDINGS / target.name}.log says why.")
        _replace(target, chosen)
    kept = committed_inputs(target.name)
    return len(kept), sum(path.stat().st_size for path in kept)


def _replace(target: Target, chosen: list[Path]) -> None:
    for path in committed_inputs(target.name):
        if not path.name.startswith(FOUND):
            path.unlink()
    for path in chosen:
        shutil.copy(path, COMMITTED / target.name / path.name)


if __name__ == "__main__":
    main()
