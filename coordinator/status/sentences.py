"""What is said of jobs, rounds and sites, on the page and in the terminal."""

from __future__ import annotations

from typing import Final

from coordinator.status.facts import Absence, CoverageFacts, EventFacts, JobFacts, RoundFacts, SiteFacts
from coordinator.status.words import Phrases, Word

_NAMED: Final = 8
"""Thin heads that are named."""


def say_running(job: JobFacts, running: RoundFacts, now: float, phrases: Phrases) -> str:
    """Say which round runs, in which phase, for how long, and with how many sites."""
    where = phrases.say(
        Word.ROUND_OF, number=running.number, planned=job.rounds_planned, phase=phrases.name(running.phase)
    )
    who = phrases.say(Word.SELECTED, selected=running.selected, dropped=running.dropped)
    return phrases.say(Word.RUNNING, where=where, left=_say_left(running.deadline_at, now, phrases), who=who)


def say_state(job: JobFacts, phrases: Phrases) -> str:
    """Say a job's state: what nobody leads does not run."""
    state = phrases.name(job.state)
    return state if job.is_led else f"{state}, {phrases.say(Word.NOT_LED)}"


def say_accuracy(job: JobFacts, phrases: Phrases) -> str:
    """Say how good the newest version is; empty where none was measured."""
    if job.accuracy is None:
        return ""
    before = f" ({phrases.say(Word.ACCURACY_BEFORE)} {say_share(job.accuracy_before)})" if job.accuracy_before else ""
    return f"{phrases.say(Word.ACCURACY)} {say_share(job.accuracy)}{before}"


def say_ago(moment: float, now: float, phrases: Phrases) -> str:
    """Say how long ago something was; 0 is never."""
    return phrases.say(Word.AGO, time=phrases.seconds(now - moment)) if moment else phrases.say(Word.NEVER)


def say_doing(site: SiteFacts, phrases: Phrases) -> str:
    """Say what a site does, and how much of it is done."""
    if site.activity is None:
        return ""
    share = "" if site.share_done is None else f" {site.share_done:.0%}"
    return f"{phrases.name(site.activity)}{share}"


def say_absence(site: SiteFacts, phrases: Phrases) -> str:
    """Say why a site has no part; empty where it has one."""
    if site.absence is None:
        return ""
    said = phrases.name(site.absence)
    if site.absence is Absence.DROPPED and site.drop_reason is not None:
        return f"{said} ({phrases.name(site.drop_reason)})"
    return f"{said}: {site.note}" if site.note else said


def say_ended(event: EventFacts, phrases: Phrases) -> str:
    """Say how a round ended, and who left it."""
    said = phrases.say(
        Word.ROUND_ENDED,
        number=event.round_number,
        outcome=phrases.name(event.outcome),
        completed=event.completed,
        selected=event.selected,
    )
    if not event.drops:
        return said
    names = ", ".join(f"{site} ({phrases.name(reason)})" for site, reason in event.drops)
    return f"{said}; {phrases.say(Word.LEFT_OUT, names=names)}"


def thin_heads(facts: CoverageFacts) -> list[tuple[int, int]]:
    """Return matrix and head of what fewer than half of the survivors trained, the fewest first."""
    every = [(matrix, head) for matrix in range(len(facts.matrices)) for head in range(facts.heads)]
    thin = [place for place in every if 2 * facts.counts.get(place, 0) < facts.survivors]
    return sorted(thin, key=lambda place: (facts.counts.get(place, 0), place))


def say_thin(facts: CoverageFacts, phrases: Phrases) -> str:
    """Say how many heads are thin, and which."""
    thin = thin_heads(facts)
    if not thin:
        return phrases.say(Word.ALL_COVERED)
    names = ", ".join(say_head(facts, place, phrases) for place in thin[:_NAMED])
    more = " …" if len(thin) > _NAMED else ""
    return phrases.say(Word.THIN, count=len(thin), total=len(facts.matrices) * facts.heads, names=names + more)


def say_head(facts: CoverageFacts, place: tuple[int, int], phrases: Phrases) -> str:
    """Say of how many survivors an update is in a head, by matrix and head."""
    matrix, head = place
    said = phrases.say(
        Word.CELL,
        matrix=facts.matrices[matrix],
        head=head,
        count=facts.counts.get(place, 0),
        survivors=facts.survivors,
    )
    if place in facts.withheld:
        return f"{said} ({phrases.say(Word.WITHHELD)})"
    return said if facts.counts.get(place, 0) else f"{said} ({phrases.say(Word.NOBODY)})"


def say_share(value: float | None) -> str:
    """Say a share of one; empty where there is none."""
    return "" if value is None else f"{value:.1%}"


def _say_left(deadline_at: float, now: float, phrases: Phrases) -> str:
    if not deadline_at:
        return phrases.say(Word.NO_DEADLINE)
    if deadline_at < now:
        return phrases.say(Word.OVERDUE, time=phrases.seconds(now - deadline_at))
    return phrases.say(Word.TIME_LEFT, time=phrases.seconds(deadline_at - now))
