"""A job as it runs: a live picture on a terminal, lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from coordinator.cli.live_view import render_watched
from coordinator.cli.plain import to_plain
from coordinator.cli.tables import describe_activity, describe_drop, has_ended, round_stage, shown_state
from ravan.wire.v1 import operator_service_pb2 as wire


async def watch_on_terminal(views: AsyncIterator[wire.WatchJobResponse], console: Console) -> wire.Job | None:
    """Draw each view over the last, and the newest again each second; return the job as it was seen last."""
    screen = _Screen()
    with Live(console=console, get_renderable=screen.draw, refresh_per_second=1, vertical_overflow="visible") as live:
        async for view in views:
            screen.show(view)
            live.refresh()
    return screen.job


class _Screen:
    """The newest view, by the coordinator's clock and what has passed on this machine's since it came."""

    def __init__(self) -> None:
        self._drawn: Callable[[], RenderableType] = Text
        self.job: wire.Job | None = None

    def show(self, view: wire.WatchJobResponse) -> None:
        came, now = time.monotonic(), view.now or time.time()
        self.job, self._drawn = view.job, lambda: render_watched(view, now + time.monotonic() - came)

    def draw(self) -> RenderableType:
        """Return what is to be seen now; also called from a thread."""
        return self._drawn()


async def watch_in_lines(views: AsyncIterator[wire.WatchJobResponse]) -> wire.Job | None:
    """Print what changed, a line each; return the job as it was seen last."""
    narrator = Narrator()
    job = None
    async for view in views:
        job = view.job
        for line in narrator.tell(view):
            print(line, flush=True)
    return job


async def watch_as_json(views: AsyncIterator[wire.WatchJobResponse]) -> wire.Job | None:
    """Print each view as one line of JSON; return the job as it was seen last."""
    job = None
    async for view in views:
        job = view.job
        print(json.dumps(to_plain(view), sort_keys=True), flush=True)
    return job


class Narrator:
    """Turn views of a job into lines that say what is new."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._doing = ""

    def tell(self, view: wire.WatchJobResponse) -> list[str]:
        """Return the lines that this view adds to what was said before."""
        job = view.job
        told = [f"{job.name}: {shown_state(job)}" + (f". {job.message}" if job.message else "")]
        if job.HasField("accuracy_before"):
            told.append(f"Accuracy before training: {job.accuracy_before:.1%}")
        for each in job.rounds:
            told += _tell_round(each)
        lines = [line for line in told if line not in self._said]
        self._said.update(lines)
        return lines + self._tell_progress(view)

    def _tell_progress(self, view: wire.WatchJobResponse) -> list[str]:
        doing = ", ".join(f"{site.name} {describe_activity(site)}" for site in view.sites if site.HasField("heartbeat"))
        if has_ended(view.job) or not doing or doing == self._doing:
            return []
        self._doing = doing
        return [f"  {doing}"]


def _tell_round(each: wire.Round) -> list[str]:
    lines = [f"Round {each.number}: {round_stage(each)}, {len(each.selected)} sites"]
    lines += [f"Round {each.number}: lost {describe_drop(drop)}" for drop in each.dropped]
    if each.HasField("accuracy"):
        loss = f", loss {each.loss:.3f}" if each.HasField("loss") else ""
        lines.append(f"Round {each.number}: accuracy {each.accuracy:.1%}{loss}, {len(each.completed)} sites in the sum")
    return lines
