"""Run every mutant of `ravan/secagg` and say which live: `python -m mutation.secagg [MODULE ...]`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from mutation.equivalents import Equivalent, read_equivalents
from mutation.mutants import Mutant, mutants
from mutation.workbench import ROOT, Verdict, Workbench, workbench

PACKAGE: Final = Path("ravan/secagg")
_TESTS: Final = Path("tests/ravan/secagg")

FIRST: Final = {
    "agent": ("test_agent_refusals",),
    "agent_reveal": ("test_agent_refusals", "test_lies_about_survivors"),
    "agent_secrets": (
        "test_nothing_printed",
        "test_known_answers",
    ),
    "agent_sharing": (
        "test_nothing_printed",
        "test_agent_refusals",
    ),
    "agent_states": (
        "test_nothing_printed",
        "test_agent_refusals",
    ),
    "bundles": ("test_bundle_plan", "test_weighted_profile"),
    "cells": ("test_weighted_profile",),
    "combine": ("test_combine_sums", "test_vector_shapes", "test_weighted_profile"),
    "coordinator": ("test_coordinator_refusals", "test_groups"),
    "coordinator_phases": ("test_coordinator_refusals",),
    "coordinator_states": ("test_coordinator_refusals",),
    "decoding": (
        "test_nothing_printed",
        "test_share_decoding",
    ),
    "groups": ("test_groups",),
    "keys": ("test_known_answers", "test_published_vectors"),
    "masking": ("test_masking_streams", "test_vector_shapes", "test_rings_and_suites"),
    "messages": ("test_nothing_printed",),
    "packing": ("test_packing_planes", "test_vector_shapes"),
    "prg": ("test_masking_streams", "test_rings_and_suites"),
    "recovery": (
        "test_nothing_printed",
        "test_unmask_faults",
    ),
    "rotation": ("test_rotation",),
    "scores": ("test_scores",),
    "sealing": ("test_sealed_shares",),
    "shamir": ("test_shamir_sharing",),
    "statistics": ("test_statistics_limbs",),
    "terms": ("test_agent_refusals", "test_unusable_terms", "test_weighted_profile"),
    "transcript": ("test_transcript_encoding",),
    "unmask": (
        "test_nothing_printed",
        "test_unmask_faults",
    ),
    "vectors": ("test_quantised_updates", "test_vector_shapes"),
}
"""The tests that a module's mutants meet first; who survives meets all of the package's."""


_SLOW: Final = (
    f"{_TESTS}/test_groups.py::test_300_agents_in_groups_add_up_exactly_with_losses_at_each_step",
    f"{_TESTS}/test_whole_rounds.py::test_every_drop_pattern_that_leaves_t_gives_the_exact_sum[6]",
)
"""What smaller tests beside them try as well."""

_NEWS_EVERY: Final = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a module's mutants fared."""

    module: str
    total: int
    survivors: tuple[Mutant, ...]
    excused: tuple[Mutant, ...]
    """Survivors for which a reason is given."""
    stale: tuple[str, ...]
    """Mutants that a reason is given for and that no longer survive."""


def modules() -> list[str]:
    """Return the names of all modules that have mutants."""
    paths = sorted((ROOT / PACKAGE).glob("*.py"))
    return [path.stem for path in paths if next(mutants(path.read_text(encoding="utf-8")), None) is not None]


@click.command()
@click.argument("names", nargs=-1, metavar="[MODULE]...")
def main(names: Sequence[str]) -> None:
    """Try the mutants of all modules, or of those named; fail when one lives for which no reason is given."""
    unknown = set(names).difference(modules())
    if unknown:
        raise click.UsageError(f"no such module in {PACKAGE}: {', '.join(sorted(unknown))}")
    equivalents = read_equivalents()
    with workbench() as bench:
        if bench.judge([str(_TESTS)]) is not Verdict.SURVIVED:
            raise click.ClickException("the tests fail without any change; make them pass first")
        outcomes = [_try_module(bench, name, equivalents) for name in names or modules()]
    for line in _report(outcomes):
        click.echo(line)
    sys.exit(any(outcome.survivors or outcome.stale for outcome in outcomes))


def _try_module(bench: Workbench, name: str, equivalents: Sequence[Equivalent]) -> Outcome:
    path = str(PACKAGE / f"{name}.py")
    everything = list(mutants((ROOT / path).read_text(encoding="utf-8")))
    ours = [each for each in equivalents if each.module == name]
    lives = []
    for done, mutant in enumerate(everything, start=1):
        is_excused = any(each.covers(name, mutant) for each in ours)
        with bench.changed(path, mutant.source):
            if _survives(bench, name, is_excused=is_excused):
                lives.append(mutant)
                if not is_excused:
                    click.echo(f"{name}:{mutant.line} {mutant.scope}\n  - {mutant.before}\n  + {mutant.after}")
        if done % _NEWS_EVERY == 0 or done == len(everything):
            click.echo(f"{name}: {done} of {len(everything)} tried, {len(lives)} live")
    excused = tuple(mutant for mutant in lives if any(each.covers(name, mutant) for each in ours))
    return Outcome(
        module=name,
        total=len(everything),
        survivors=tuple(mutant for mutant in lives if mutant not in excused),
        excused=excused,
        stale=tuple(_stale(name, ours, lives)),
    )


def _survives(bench: Workbench, name: str, *, is_excused: bool) -> bool:
    first = [str(_TESTS / f"{test}.py") for test in FIRST.get(name, ())]
    stages = [first] if first else []
    # Most time goes into those that live, so those that may are not shown to all tests again.
    if not (is_excused and first):
        stages.append([str(_TESTS), *(f"--deselect={test}" for test in _SLOW)])
    return all(bench.judge(tests) is Verdict.SURVIVED for tests in stages)


def _stale(name: str, excuses: Sequence[Equivalent], lives: Sequence[Mutant]) -> Iterator[str]:
    living = {(mutant.scope, mutant.before, mutant.after) for mutant in lives}
    for each in excuses:
        for after in each.after:
            if (each.scope, each.before, after) not in living:
                yield f"{name} {each.scope}: {after}"


def _report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield f"\n{'module':20} mutants  killed  excused  live"
    for outcome in outcomes:
        lives = len(outcome.survivors) + len(outcome.excused)
        counts = (outcome.total, outcome.total - lives, len(outcome.excused), len(outcome.survivors))
        yield f"{outcome.module:20} {counts[0]:7} {counts[1]:7} {counts[2]:8} {counts[3]:5}"
    for outcome in outcomes:
        for mutant in outcome.survivors:
            yield f"\n{PACKAGE / outcome.module}.py:{mutant.line} {mutant.scope}"
            yield f"  - {mutant.before}\n  + {mutant.after}"
        for each in outcome.stale:
            yield f"\nno longer survives, so needs no reason: {each}"


if __name__ == "__main__":
    main()
