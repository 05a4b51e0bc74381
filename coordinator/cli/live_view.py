"""A watched job for a terminal, with the facts that the status page shows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from coordinator.cli.durations import describe_moment
from coordinator.cli.sparkline import draw_sparkline
from coordinator.cli.tables import describe_course, has_ended, rounds_table, text_table
from coordinator.cli.watched import read_watched
from coordinator.status.facts import JobFacts, SiteFacts
from coordinator.status.sentences import (
    say_absence,
    say_accuracy,
    say_ago,
    say_doing,
    say_running,
    say_share,
    say_state,
    say_thin,
)
from coordinator.status.words import Language, Phrases, Word
from ravan.wire.v1 import operator_service_pb2 as wire

ROUNDS_SHOWN: Final = 6
DEEDS_SHOWN: Final = 5
_PHRASES: Final = Phrases(Language.ENGLISH)


def render_watched(view: wire.WatchJobResponse, now: float) -> RenderableType:
    """Return a view as it is at a time, in seconds since the Unix epoch; sites only while the job goes on."""
    facts, job = read_watched(view), view.job
    parts: list[RenderableType] = [*_job_lines(facts.job, now), *describe_course(job)]
    if job.rounds:
        parts.append(rounds_table(job.rounds[-ROUNDS_SHOWN:]))
    if facts.sites and not has_ended(job):
        parts += [Text(), _sites_table(facts.sites, now)]
    if view.deeds:
        parts += [Text(), _deeds_table(view.deeds[:DEEDS_SHOWN])]
    return Group(*parts)


def _job_lines(job: JobFacts, now: float) -> list[Text]:
    said = [say_running(job, job.running, now, _PHRASES)] if job.running is not None else []
    said += [job.message, say_accuracy(job, _PHRASES)]
    accuracy = [point.accuracy for point in job.points if point.accuracy is not None]
    losses = [point.loss for point in job.points if point.loss is not None]
    said += [
        _say_course(Word.ACCURACY, accuracy, say_share),
        _say_course(Word.LOSS, losses, lambda loss: f"{loss:.3f}"),
    ]
    if job.coverage is not None:
        coverage = job.coverage
        of = _PHRASES.say(Word.COVERAGE_OF, number=coverage.round_number, survivors=coverage.survivors)
        said.append(f"{of}: {say_thin(coverage, _PHRASES)}")
    head = Text(f"{job.name} ({job.job_id}): {say_state(job, _PHRASES)}", style="bold")
    return [head, *(Text(line) for line in said if line)]


def _say_course(name: Word, values: Sequence[float], show: Callable[[float], str]) -> str:
    if not values:
        return ""
    last = ", ".join(show(value) for value in values[-3:])
    return f"{_PHRASES.say(name)} by round {draw_sparkline(values)} {last}"


def _sites_table(sites: Sequence[SiteFacts], now: float) -> RenderableType:
    words = (Word.SITE, Word.STATE, Word.LAST_SEEN, Word.DOING, Word.HEADS, Word.ABSENT)
    rows = [
        (
            site.name,
            _PHRASES.name(site.state),
            say_ago(site.last_seen, now, _PHRASES),
            say_doing(site, _PHRASES),
            "" if site.heads is None else str(site.heads),
            say_absence(site, _PHRASES),
        )
        for site in sites
    ]
    return text_table([_PHRASES.say(word) for word in words], rows)


def _deeds_table(deeds: Sequence[wire.Deed]) -> RenderableType:
    words = (Word.TIME, Word.EVENT, Word.WHAT, Word.WHO)
    rows = [
        (
            describe_moment(deed.at),
            deed.kind.replace("_", " "),
            deed.subject,
            deed.actor or _PHRASES.say(Word.HQ),
        )
        for deed in deeds
    ]
    return text_table([_PHRASES.say(word) for word in words], rows)
