"""The read-only status page: plain HTML without scripts, readable on a phone, in two languages."""

from __future__ import annotations

import time
from typing import Final

from coordinator.status.coverage import draw_coverage
from coordinator.status.curves import draw_curve
from coordinator.status.facts import JobFacts, SiteFacts, StatusFacts
from coordinator.status.markup import Markup, element, empty, joined, table
from coordinator.status.sentences import (
    say_absence,
    say_accuracy,
    say_ago,
    say_doing,
    say_ended,
    say_running,
    say_share,
    say_state,
)
from coordinator.status.words import Language, Phrases, Word

REFRESH_S: Final = 10

_LANGUAGE_NAMES: Final = {Language.ENGLISH: "English", Language.JAPANESE: "日本語"}


def render_status(facts: StatusFacts, language: Language, *, refreshes: bool = True) -> str:
    """Return the page as HTML; without `refreshes` it stays as it is until somebody loads it again."""
    phrases = Phrases(language)
    body = (
        element("a", phrases.say(Word.SKIP), href="#sites", class_="skip"),
        _header(facts, phrases, refreshes=refreshes),
        element("main", *_sections(facts, phrases)),
    )
    page = element("html", _head(phrases, refreshes=refreshes), element("body", *body), lang=language)
    return f"<!doctype html>{page}\n"


def _head(phrases: Phrases, *, refreshes: bool) -> Markup:
    return element(
        "head",
        empty("meta", charset="utf-8"),
        element("title", phrases.say(Word.TITLE)),
        empty("meta", name="viewport", content="width=device-width, initial-scale=1"),
        Markup(f'<meta http-equiv="refresh" content="{REFRESH_S}">' if refreshes else ""),
        empty("link", rel="stylesheet", href="/status.css"),
    )


def _header(facts: StatusFacts, phrases: Phrases, *, refreshes: bool) -> Markup:
    here = phrases.language
    addresses = ", ".join(f"{name} {address}" for name, address in facts.addresses)
    languages = (
        element("a", _LANGUAGE_NAMES[each], href=_link(each, refreshes=refreshes), lang=each, hreflang=each)
        for each in Language
        if each is not here
    )
    refresh = element(
        "a", phrases.say(Word.STOP_REFRESH if refreshes else Word.REFRESH), href=_link(here, refreshes=not refreshes)
    )
    said = element("span", phrases.say(Word.REFRESHES, seconds=REFRESH_S), class_="quiet") if refreshes else Markup("")
    return element(
        "header",
        element("h1", f"{phrases.say(Word.TITLE)} {facts.version}"),
        element("p", f"{_clock(facts.now)} · {addresses}", class_="quiet"),
        element("nav", *languages, refresh, said),
    )


def _link(language: Language, *, refreshes: bool) -> str:
    return f"/status?lang={language}" + ("" if refreshes else "&refresh=0")


def _sections(facts: StatusFacts, phrases: Phrases) -> tuple[Markup, ...]:
    if not facts.is_known:
        return (element("p", phrases.say(Word.UNKNOWN), role="status", class_="warn"),)
    return (
        _section("jobs", Word.JOBS, _jobs(facts, phrases), phrases),
        _section("sites", Word.SITES, _sites(facts, phrases), phrases),
        _section("events", Word.EVENTS, _events(facts, phrases), phrases),
        _section("deeds", Word.DEEDS, _deeds(facts, phrases), phrases),
    )


def _section(name: str, title: Word, content: Markup, phrases: Phrases) -> Markup:
    heading = element("h2", phrases.say(title), id=f"{name}-title")
    return element("section", heading, content, id=name, aria_labelledby=f"{name}-title", tabindex=-1)


def _jobs(facts: StatusFacts, phrases: Phrases) -> Markup:
    if not facts.jobs:
        return element("p", phrases.say(Word.NO_JOBS))
    shown = [job for job in facts.jobs if job.running is not None or job.points or job.coverage is not None]
    heads = tuple(phrases.say(word) for word in (Word.JOB, Word.STATE, Word.ROUNDS, Word.ACCURACY))
    rows = [
        (job.name, say_state(job, phrases), f"{job.rounds_done}/{job.rounds_planned}", say_share(job.accuracy))
        for job in facts.jobs
    ]
    overview = table(heads, rows, caption=phrases.say(Word.JOBS))
    return joined((overview, *(_job(job, facts.now, phrases) for job in shown)))


def _job(job: JobFacts, now: float, phrases: Phrases) -> Markup:
    lines = [element("h3", f"{job.name} ({job.job_id})")]
    if job.running is not None:
        lines.append(element("p", say_running(job, job.running, now, phrases)))
    if job.message:
        lines.append(element("p", job.message, lang=Language.ENGLISH))
    if job.accuracy is not None:
        lines.append(element("p", say_accuracy(job, phrases)))
    accuracy = [(point.number, point.accuracy) for point in job.points if point.accuracy is not None]
    loss = [(point.number, point.loss) for point in job.points if point.loss is not None]
    curves = (
        draw_curve(phrases.say(Word.ACCURACY), accuracy, say_share, phrases),
        draw_curve(phrases.say(Word.LOSS), loss, lambda value: f"{value:.3f}", phrases),
    )
    lines.append(element("div", *curves, class_="curves"))
    if job.coverage is not None:
        lines.append(draw_coverage(job.coverage, phrases))
    return joined(lines)


def _sites(facts: StatusFacts, phrases: Phrases) -> Markup:
    if not facts.sites:
        return element("p", phrases.say(Word.NO_SITES))
    words = (Word.SITE, Word.STATE, Word.LAST_SEEN, Word.DOING, Word.HEADS, Word.MEMORY, Word.ABSENT)
    rows = [_site(site, facts.now, phrases) for site in facts.sites]
    return table([phrases.say(word) for word in words], rows, caption=phrases.say(Word.SITES))


def _site(site: SiteFacts, now: float, phrases: Phrases) -> tuple[str, ...]:
    return (
        site.name,
        phrases.name(site.state),
        say_ago(site.last_seen, now, phrases),
        say_doing(site, phrases),
        "" if site.heads is None else str(site.heads),
        f"{site.memory_bytes >> 20:,} MiB" if site.memory_bytes else "",
        say_absence(site, phrases),
    )


def _events(facts: StatusFacts, phrases: Phrases) -> Markup:
    if not facts.events:
        return element("p", phrases.say(Word.NO_EVENTS))
    heads = tuple(phrases.say(word) for word in (Word.TIME, Word.JOB, Word.EVENT))
    rows = [(_clock(event.at), event.job, say_ended(event, phrases)) for event in facts.events]
    return table(heads, rows, caption=phrases.say(Word.EVENTS))


def _deeds(facts: StatusFacts, phrases: Phrases) -> Markup:
    if not facts.deeds:
        return element("p", phrases.say(Word.NO_DEEDS))
    heads = tuple(phrases.say(word) for word in (Word.TIME, Word.EVENT, Word.WHAT, Word.WHO))
    rows = [
        (_clock(deed.at), phrases.name(deed.kind), deed.subject, deed.actor or phrases.say(Word.HQ))
        for deed in facts.deeds
    ]
    return table(heads, rows, caption=phrases.say(Word.DEEDS))


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
