"""What people and programs see of a job: lines, tables, JSON."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import click
import pytest
from rich.console import Console

from coordinator.cli.absence import describe_absence
from coordinator.cli.durations import Duration, describe_moment, describe_seconds
from coordinator.cli.live_view import render_watched
from coordinator.cli.plain import to_plain
from coordinator.cli.tables import describe_activity, render_job, show_jobs, show_sites
from coordinator.cli.watching import Narrator, watch_in_lines
from ravan.ids import BlockId, BlockKind
from ravan.wire.v1 import hardware_pb2, round_pb2, site_service_pb2
from ravan.wire.v1 import operator_service_pb2 as wire

HEAD = BlockId(BlockKind.HEAD, 0, 3, 1)
NOON = 1_699_963_200.0
"""2023-11-14 12:00:00 UTC."""


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def training_round() -> wire.Round:
    return wire.Round(number=1, phase=round_pb2.ROUND_PHASE_TRAINING, selected=["a", "b", "c"])


def committed_round() -> wire.Round:
    drop = wire.Drop(site="c", phase=round_pb2.ROUND_PHASE_UPLOADING, reason=round_pb2.DROP_REASON_DISCONNECTED)
    return wire.Round(
        number=1,
        phase=round_pb2.ROUND_PHASE_ENDED,
        outcome=round_pb2.ROUND_OUTCOME_COMMITTED,
        selected=["a", "b", "c"],
        completed=["a", "b"],
        dropped=[drop],
        accuracy=0.5,
        loss=1.25,
        phase_times=[wire.PhaseTime(phase=round_pb2.ROUND_PHASE_TRAINING, seconds=12)],
        withheld=[HEAD.pack()],
        state_digest=b"\x01" * 32,
    )


def job(*rounds: wire.Round, state: round_pb2.JobState.ValueType = round_pb2.JOB_STATE_RUNNING) -> wire.Job:
    return wire.Job(
        job_id="defects-1", name="defects", state=state, rounds=rounds, rounds_planned=2, accuracy_before=0.125
    )


def site(name: str, done: int, total: int = 40) -> wire.Site:
    beat = site_service_pb2.HeartbeatRequest(activity=site_service_pb2.AGENT_ACTIVITY_TRAINING, done=done, total=total)
    return wire.Site(name=name, state=wire.SITE_STATE_ONLINE, heartbeat=beat)


def test_a_running_round_shows_until_when_it_waits_and_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    running = training_round()
    running.awaited.append("plant-b")
    running.deadline_at = 86_400 + 3 * 3600 + 25 * 60 + 45
    out = io.StringIO()
    Console(file=out, width=160).print(render_job(job(running)))
    monkeypatch.undo()
    time.tzset()
    assert "plant-b until 03:25:45" in out.getvalue()


def test_a_site_that_rests_says_so_while_it_does_nothing_else() -> None:
    resting = "rests from orders until round 9"
    assert describe_activity(wire.Site(name="a", resting=resting)) == resting
    idle = site_service_pb2.HeartbeatRequest(activity=site_service_pb2.AGENT_ACTIVITY_IDLE)
    assert describe_activity(wire.Site(name="a", heartbeat=idle, resting=resting)) == resting
    busy = site("a", 3)
    busy.resting = resting
    assert describe_activity(busy) == "training 3/40"


def test_a_site_that_is_held_back_says_so_before_anything_else_but_work() -> None:
    held = wire.Site(name="a", held_back="held back: its agent is 0.1.0, older than 0.2.0", resting="rests")
    assert describe_activity(held) == held.held_back
    busy = site("a", 3)
    busy.held_back = held.held_back
    assert describe_activity(busy) == "training 3/40"


def test_the_fleet_is_shown_with_the_versions_of_its_agents(capsys: pytest.CaptureFixture[str]) -> None:
    machine = hardware_pb2.HardwareProfile(agent_version="0.1.7", ram_limit_bytes=1 << 30)
    show_sites([(wire.Site(name="a", state=wire.SITE_STATE_ONLINE, hardware=machine), "no round runs")], now=0)
    head, row = capsys.readouterr().out.splitlines()
    assert row[head.index("Agent") :].split()[0] == "0.1.7"
    assert row[head.index("Idle because") :].strip() == "no round runs"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": wire.SITE_STATE_INVITED}, "has not enrolled"),
        ({"state": wire.SITE_STATE_OFFLINE}, "offline"),
        ({"state": wire.SITE_STATE_REVOKED}, "revoked"),
        ({"held_back": "is too old", "resting": "rests"}, "is too old"),
        ({"resting": "rests from orders until round 9"}, "rests from orders until round 9"),
        ({"name": "in"}, ""),
        ({"name": "gone"}, "left round 7 (memory)"),
        ({"name": "elsewhere"}, ""),
        ({"name": "never"}, "not selected for round 7, 2"),
    ],
)
def test_why_a_site_is_idle(changes: dict[str, Any], why: str) -> None:
    drops = [wire.Drop(site=name, reason=round_pb2.DROP_REASON_MEMORY) for name in ("gone", "elsewhere")]
    running = [
        wire.Round(number=7, selected=["in", "gone", "elsewhere"], dropped=drops),
        wire.Round(number=2, selected=["elsewhere"]),
    ]
    shown = wire.Site(**{"name": "in", "state": wire.SITE_STATE_ONLINE, **changes})
    assert describe_absence(shown, running) == why


def test_nobody_is_to_blame_where_no_round_runs() -> None:
    assert describe_absence(wire.Site(name="a", state=wire.SITE_STATE_ONLINE), []) == "no round runs"


def test_narrator_says_each_thing_once() -> None:
    narrator = Narrator()
    first = narrator.tell(wire.WatchJobResponse(job=job(training_round()), sites=[site("a", 3)]))
    assert first == [
        "defects: running",
        "Accuracy before training: 12.5%",
        "Round 1: training, 3 sites",
        "  a training 3/40",
    ]
    assert narrator.tell(wire.WatchJobResponse(job=job(training_round()), sites=[site("a", 3)])) == []
    moved = narrator.tell(wire.WatchJobResponse(job=job(training_round()), sites=[site("a", 9)]))
    assert moved == ["  a training 9/40"]
    ended = job(committed_round(), state=round_pb2.JOB_STATE_COMPLETED)
    assert narrator.tell(wire.WatchJobResponse(job=ended, sites=[site("a", 40)])) == [
        "defects: completed",
        "Round 1: committed, 3 sites",
        "Round 1: lost c in uploading (disconnected)",
        "Round 1: accuracy 50.0%, loss 1.250, 2 sites in the sum",
    ]


async def test_lines_are_printed_and_the_last_view_returned(capsys: pytest.CaptureFixture[str]) -> None:
    async def views() -> AsyncIterator[wire.WatchJobResponse]:
        yield wire.WatchJobResponse(job=job(training_round()))
        yield wire.WatchJobResponse(job=job(committed_round(), state=round_pb2.JOB_STATE_COMPLETED))

    last = await watch_in_lines(views())
    assert last == job(committed_round(), state=round_pb2.JOB_STATE_COMPLETED)
    assert capsys.readouterr().out.splitlines()[-1] == "Round 1: accuracy 50.0%, loss 1.250, 2 sites in the sum"


def test_picture_shows_rounds_and_treats_names_as_text() -> None:
    output = io.StringIO()
    Console(file=output, width=140).print(
        render_watched(wire.WatchJobResponse(job=job(committed_round()), sites=[site("[red]x", 3)]), NOON)
    )
    text = output.getvalue()
    for part in ("defects (defects-1): running", "committed", "2/3", "50.0%", "1.250", "c in uploading", "[red]x"):
        assert part in text


def led(view: wire.Job, *, live: bool) -> wire.Job:
    view.lead.CopyFrom(wire.Lead(live=live, holder="hq-77-ab", address="hq:8443", since=NOON, until=NOON + 15))
    return view


def waiting_round() -> wire.Round:
    return wire.Round(
        number=1,
        phase=round_pb2.ROUND_PHASE_UPLOADING,
        awaited=["plant-a", "plant-b"],
        phase_began_at=NOON + 60,
        deadline_at=NOON + 660,
    )


def picture(view: wire.Job) -> str:
    output = io.StringIO()
    Console(file=output, width=200).print(render_job(view))
    return output.getvalue()


def test_a_job_shows_who_leads_it_and_what_it_waits_for_since_when_and_until_when(utc: None) -> None:
    shown = picture(led(job(waiting_round()), live=True))
    assert "defects (defects-1): running\n" in shown
    assert "Led by hq-77-ab at hq:8443 since 2023-11-14 12:00:00.\n" in shown
    assert (
        "Round 1 is uploading since 2023-11-14 12:01:00: waits for plant-a, plant-b, "
        "until 2023-11-14 12:11:00 at the latest.\n" in shown
    )


def test_a_job_that_nobody_leads_is_not_shown_as_if_it_ran(utc: None, capsys: pytest.CaptureFixture[str]) -> None:
    left = led(job(waiting_round()), live=False)
    shown = picture(left)
    assert "running, but nobody leads it" in shown
    assert "Led by nobody since 2023-11-14 12:00:00." in shown
    assert "Round 1 is uploading since 2023-11-14 12:01:00 and stands still until a coordinator leads again." in shown
    assert "waits for plant-a" not in shown
    show_jobs([left, led(job(), live=True)])
    listed = capsys.readouterr().out
    assert "nobody since" in listed
    assert "hq-77-ab" in listed
    assert Narrator().tell(wire.WatchJobResponse(job=left))[0] == "defects: running, but nobody leads it"


def test_heavy_work_shows_who_does_it_and_what_waits(utc: None) -> None:
    view = led(job(waiting_round()), live=True)
    view.tasks.add(kind=wire.WORK_KIND_UNMASK, holder="hq-78-cd", since=NOON + 1, until=NOON + 16, attempts=2)
    view.tasks.add(kind=wire.WORK_KIND_EVALUATE, since=NOON + 2)
    shown = picture(view)
    assert "Task unmask is at hq-78-cd since 2023-11-14 12:00:01, attempt 2.\n" in shown
    assert "Task evaluate waits for a worker since 2023-11-14 12:00:02, after 0 attempts.\n" in shown


def test_a_job_that_has_ended_is_led_by_nobody_and_nobody_is_missed() -> None:
    assert "Led by" not in picture(job(committed_round(), state=round_pb2.JOB_STATE_COMPLETED))


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), 1e300, -1e300])
def test_a_time_that_none_can_be_is_said_to_be_that(moment: float) -> None:
    assert describe_moment(moment) == "an impossible time"


@pytest.mark.parametrize(
    ("done", "total", "text"), [(3, 40, "training 3/40"), (0, 0, "training"), (5 << 20, 20 << 20, "training 25%")]
)
def test_activity(done: int, total: int, text: str) -> None:
    assert describe_activity(site("a", done, total)) == text


def test_plain_values_are_for_any_json_reader() -> None:
    plain = to_plain(job(committed_round()))
    assert plain["state"] == "running"
    assert plain["accuracy"] is None
    assert plain["accuracy_before"] == 0.125
    assert plain["plan"] is None
    [each] = plain["rounds"]
    assert each["outcome"] == "committed"
    assert each["dropped"] == [{"site": "c", "phase": "uploading", "reason": "disconnected"}]
    assert each["withheld"] == ["head e0/m3/1"]
    assert each["state_digest"] == "01" * 32
    assert each["clip_rate"] is None
    assert to_plain(job(training_round()))["rounds"][0]["outcome"] is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86_400), (" 7D ", 604_800)])
def test_durations(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0h", "-1h", "1.5h", "1w", "h", "12", "1h1h"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86_400, "24 h"), (172_800, "2 d")]
)
def test_described_seconds(seconds: float, text: str) -> None:
    assert describe_seconds(seconds) == text
