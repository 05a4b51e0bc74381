"""`python -m deploy.demo`: what `make demo` runs."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from rich.console import Console

from deploy.demo.plant import CommandFailedError
from deploy.demo.report import print_table
from deploy.demo.run import DemoFailedError, Options, run_demo
from ravan.errors import RavanError


def main() -> int:
    """Run the demo; return 0 when it did what it promises."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="rounds to train (default 8)")
    parser.add_argument("--heads", type=int, default=4, help="heads per matrix; 0 trains the classifier alone")
    parser.add_argument("--kill-coordinator", action="store_true", help="kill -9 the coordinator in two rounds as well")
    parser.add_argument("--folder", type=Path, default=Path("demo-run"), help="where everything goes")
    arguments = parser.parse_args()
    # Being told to end, like Ctrl-C, must not leave the demo's processes behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options(
        folder=arguments.folder,
        rounds=arguments.rounds,
        heads=arguments.heads,
        kill_coordinator=arguments.kill_coordinator,
    )
    try:
        report = asyncio.run(run_demo(options))
    except KeyboardInterrupt:
        print("stopped; `make demo` goes on with what is there", file=sys.stderr)
        return 1
    except (CommandFailedError, DemoFailedError, RavanError, FileNotFoundError) as error:
        print(f"demo: {error}\nlogs: {arguments.folder / 'logs'}", file=sys.stderr)
        return 1
    path = arguments.folder / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print_table(report, Console(width=120))
    print(f"the whole run took {report['seconds']:.0f} s; report: {path}")
    return 0 if all(r["exact"] for r in report["rounds"]) else 1


if __name__ == "__main__":
    sys.exit(main())
