"""Take each check against an attack out and see its test fail: `python -m mutation.removal [WORD]`."""

from __future__ import annotations

import sys

import click

from mutation.checks import CHECKS, Check
from mutation.workbench import ROOT, Verdict, Workbench, workbench


def without(check: Check) -> str:
    """Return the file's text without the check; raise ValueError unless the check stands there once."""
    text = (ROOT / check.file).read_text(encoding="utf-8")
    if text.count(check.snippet) != 1:
        raise ValueError(f"{check.file} does not hold exactly once: {check.snippet.strip()}")
    return text.replace(check.snippet, check.removed)


@click.command()
@click.argument("word", default="")
def main(word: str) -> None:
    """Try all checks, or those whose attack has WORD in it; fail when a test passes without its check."""
    chosen = [check for check in CHECKS if word in check.attack]
    with workbench() as bench:
        if bench.judge(sorted({check.test for check in chosen})) is not Verdict.SURVIVED:
            raise click.ClickException("a test fails with all checks in place; make it pass first")
        unneeded = [check for check in chosen if not _is_noticed(bench, check)]
    click.echo(f"{len(chosen) - len(unneeded)} of {len(chosen)} checks are noticed to be gone")
    sys.exit(bool(unneeded))


def _is_noticed(bench: Workbench, check: Check) -> bool:
    with bench.changed(check.file, without(check)):
        noticed = bench.judge([check.test]) is Verdict.KILLED
    click.echo(f"{'noticed' if noticed else 'NOT NOTICED':11}  {check.attack}  ({check.file} -> {check.test})")
    return noticed


if __name__ == "__main__":
    main()
