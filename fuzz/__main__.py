"""`python -m fuzz`: run every target, or the named ones, and say what came of it."""

from __future__ import annotations

import argparse
import sys

from fuzz.running import Outcome, run_target
from fuzz.targets import TARGETS

_WIDTH = max(map(len, TARGETS))


def main() -> int:
    """Run the targets in turn; return 1 when one of them found something."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--seconds", type=int, default=60, help="seconds for each target")
    options = parser.parse_args()
    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    print(f"{'target':{_WIDTH}}  {'executions':>12}  {'new entries':>11}  {'kept':>5}", flush=True)
    outcomes = [_run(name, options.seconds) for name in options.targets or TARGETS]
    return 1 if any(outcome.failed for outcome in outcomes) else 0


def _run(name: str, seconds: int) -> Outcome:
    print(f"{name:{_WIDTH}}  ", end="", flush=True)
    outcome = run_target(TARGETS[name], seconds)
    print(f"{outcome.executions:12,}  {outcome.new_entries:11,}  {outcome.kept:5,}", flush=True)
    if outcome.failed:
        print(outcome.report)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
