"""A watched job shows in the terminal whatever the status page shows of it, on narrow and on wide ones."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator

import pytest
from job_plans import plan_of
from kept_jobs import signed
from rich.console import Console

from coordinator.cli.live_view import DEEDS_SHOWN, ROUNDS_SHOWN, render_watched
from coordinator.cli.sparkline import draw_sparkline
from coordinator.cli.watching import watch_on_terminal
from ravan.codec.references import document_to_wire
from ravan.ids import BlockId, BlockKind
from ravan.wire.v1 import hardware_pb2, round_pb2, site_service_pb2
from ravan.wire.v1 import operator_service_pb2 as wire

NOW = 1_790_000_000.0
PLAN = plan_of(3, heads=1)
MATRICES = [matrix.name for matrix in PLAN.matrices]
HEADS = [BlockId(BlockKind.HEAD, 0, matrix, 0).pack() for matrix in range(len(MATRICES))]
SURVIVORS = ["plant-a", "plant-b", "plant-c", "plant-d"]


def committed(number: int, accuracy: float, loss: float) -> wire.Round:
    counts = [1, 0, *[4] * (len(HEADS) - 2)]
    return wire.Round(
        number=number,
        phase=round_pb2.ROUND_PHASE_ENDED,
        outcome=round_pb2.ROUND_OUTCOME_COMMITTED,
        selected=[*SURVIVORS, "plant-e"],
        completed=SURVIVORS,
        accuracy=accuracy,
        loss=loss,
        cohorts=[wire.HeadCohort(block_id=head, survivors=n) for head, n in zip(HEADS, counts, strict=True)],
        withheld=[HEADS[1]],
    )


def running() -> wire.Round:
    drop = wire.Drop(site="plant-c", phase=round_pb2.ROUND_PHASE_TRAINING, reason=round_pb2.DROP_REASON_MEMORY)
    return wire.Round(
        number=4,
        phase=round_pb2.ROUND_PHASE_TRAINING,
        selected=["plant-a", "plant-b", "plant-c"],
        dropped=[drop],
        awaited=["plant-b"],
        phase_began_at=NOW - 60,
        deadline_at=NOW + 240,
        sites=[wire.SiteRound(site="plant-a", heads=48), wire.SiteRound(site="plant-b", heads=12)],
    )


def site(name: str, state: wire.SiteState.ValueType = wire.SITE_STATE_ONLINE, *, ago: float = 3) -> wire.Site:
    machine = hardware_pb2.HardwareProfile(cores=2)
    return wire.Site(name=name, state=state, last_seen=NOW - ago, hardware=machine)


def scene() -> wire.WatchJobResponse:
    """Return a job in its fourth round with a site of every kind."""
    busy, resting, invited = site("plant-a"), site("plant-d"), wire.Site(name="plant-f", state=wire.SITE_STATE_INVITED)
    busy.heartbeat.CopyFrom(
        site_service_pb2.HeartbeatRequest(activity=site_service_pb2.AGENT_ACTIVITY_TRAINING, done=1, total=4)
    )
    resting.resting = "until round 9"
    job = wire.Job(
        job_id="orders-1",
        name="orders",
        state=round_pb2.JOB_STATE_RUNNING,
        message="Two heads have nobody.",
        rounds_planned=12,
        rounds=[committed(1, 0.25, 2.0), committed(2, 0.5, 1.5), committed(3, 0.75, 1.25), running()],
        model="bert",
        plan=document_to_wire(signed(PLAN)),
        accuracy_before=0.125,
        accuracy=0.75,
        lead=wire.Lead(live=True, holder="hq-1", address="hq:8443", since=NOW - 9),
    )
    deeds = [
        wire.Deed(at=NOW - 50, kind="call_denied", subject="StopJob", actor="mia"),
        wire.Deed(at=NOW - 90, kind="started"),
    ]
    sites = [
        busy,
        site("plant-b"),
        site("plant-c"),
        resting,
        site("plant-e", wire.SITE_STATE_OFFLINE, ago=7200),
        invited,
    ]
    return wire.WatchJobResponse(job=job, sites=sites, deeds=deeds, now=NOW)


def picture(view: wire.WatchJobResponse, width: int, now: float = NOW) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render_watched(view, now))
    assert max(map(len, out.getvalue().splitlines())) <= width
    return out.getvalue()


def words_of(text: str) -> str:
    """Return the text without line breaks and alignment."""
    return re.sub(r"\s+", " ", text)


def row_of(text: str, name: str) -> str:
    """Return the line of a table that begins with a name."""
    [row] = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return words_of(row).strip()


@pytest.mark.parametrize("width", [80, 120])
def test_every_fact_of_the_scene_is_in_the_view(width: int) -> None:
    text = picture(scene(), width)
    said = words_of(text)
    for fact in (
        "orders (orders-1): running",
        "Round 4 of 12: training, 4 min left. 3 sites selected, 1 left since.",
        "Two heads have nobody.",
        "Led by hq-1 at hq:8443",
        "waits for plant-b",
        "Accuracy 75.0% (before training 12.5%)",
        "Accuracy by round ▁▅█ 25.0%, 50.0%, 75.0%",
        "Loss by round █▃▁ 2.000, 1.500, 1.250",
        f"Survivors of each head in round 3, of 4 in all: 2 of {len(HEADS)} heads are thin: "
        f"{MATRICES[1]}, head 0: 0 of 4 (withheld, too few), {MATRICES[0]}, head 0: 1 of 4",
    ):
        assert fact in said
    assert row_of(text, "plant-a") == "plant-a online 3 s ago training 25% 48"
    assert row_of(text, "plant-b") == "plant-b online 3 s ago 12"
    assert row_of(text, "plant-c") == "plant-c online 3 s ago dropped (memory)"
    assert row_of(text, "plant-d") == "plant-d online 3 s ago resting: until round 9"
    assert row_of(text, "plant-e") == "plant-e offline 2 h ago offline"
    assert row_of(text, "plant-f") == "plant-f invited never not enrolled"
    assert "call denied StopJob mia" in said
    assert "started coordinator" in said


def test_time_passes_between_two_views() -> None:
    assert "4 min left" in words_of(picture(scene(), 120))
    assert "60 s left" in words_of(picture(scene(), 120, NOW + 180))
    assert "deadline passed 60 s ago" in words_of(picture(scene(), 120, NOW + 300))


def test_a_long_job_shows_its_newest_rounds_and_events_alone() -> None:
    view = scene()
    del view.job.rounds[:]
    view.job.rounds.extend(committed(number, number / 100, 1.0) for number in range(1, 60))
    del view.deeds[:]
    view.deeds.extend(wire.Deed(at=NOW, kind="enrolled", subject=f"new-{number}") for number in range(20))
    text = picture(view, 120)
    assert [int(line.split()[0]) for line in text.splitlines() if "committed" in line] == list(
        range(60 - ROUNDS_SHOWN, 60)
    )
    assert text.count("enrolled") - text.count("not enrolled") == DEEDS_SHOWN
    assert "57.0%, 58.0%, 59.0%" in text


def test_a_job_without_a_plan_says_nothing_of_heads_and_one_that_ended_nothing_of_sites() -> None:
    view = scene()
    view.job.ClearField("plan")
    view.job.state = round_pb2.JOB_STATE_COMPLETED
    del view.job.rounds[3]
    text = picture(view, 120)
    assert "thin" not in text
    assert "plant-a online" not in words_of(text)
    assert "orders (orders-1): completed" in text


def test_figures_that_are_none_leave_a_gap() -> None:
    assert draw_sparkline([]) == ""
    assert draw_sparkline([float("nan"), float("inf")]) == ""
    assert draw_sparkline([0.0, float("nan"), 7.0]) == "▁ █"
    assert draw_sparkline([3.0, 3.0]) == "▅▅"
    assert draw_sparkline([-1.7e308, 1.7e308]) == "▁█"
    assert draw_sparkline([float(n) for n in range(100)], width=8) == "▁▂▃▄▅▆▇█"


async def test_the_terminal_is_drawn_from_each_view_and_the_last_is_returned() -> None:
    ended = scene()
    ended.job.state = round_pb2.JOB_STATE_COMPLETED

    async def views() -> AsyncIterator[wire.WatchJobResponse]:
        yield scene()
        await asyncio.sleep(0)
        yield ended

    out = io.StringIO()
    last = await watch_on_terminal(views(), Console(file=out, width=100, force_terminal=True))
    assert last == ended.job
    assert "orders (orders-1): running" in out.getvalue()
    assert "orders (orders-1): completed" in out.getvalue()
