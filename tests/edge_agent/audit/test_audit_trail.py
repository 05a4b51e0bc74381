"""What left a PC is on its disk before it leaves, and is read back whatever happened to the file."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from secagg_driver import make_assignment

from edge_agent.audit.report import gather, read_audit
from edge_agent.audit.trail import FILE_NAME, AuditTrail
from edge_agent.cli import cli
from ravan.clock import ManualClock
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.phases import RoundOutcome
from ravan.secagg.messages import MaskedHeader, SurvivorSet

FIRST, SECOND = Digest(b"\x01" * 32), Digest(b"\x02" * 32)


@pytest.fixture(scope="module")
def assignment() -> Assignment:
    return dataclasses.replace(make_assignment([(0,), (0, 1), (0, 1)]), round_number=7)


def header(content: bytes = b"\xaa" * 32, size: int = 1000) -> MaskedHeader:
    return MaskedHeader(
        index=0, mask_set_digest=FIRST, bundles=(0,), size_bytes=size, sha256=Digest(content), signature=b""
    )


async def test_one_round_from_its_first_byte_to_its_end(tmp_path: Path, assignment: Assignment) -> None:
    trail = AuditTrail(tmp_path / "state", ManualClock())
    await trail.sending(assignment, FIRST, header())
    (begun,) = read_audit(tmp_path / "state").departures
    assert (begun.job, begun.round, begun.bytes) == (assignment.job_id, 7, 1000)
    assert (begun.sha256, begun.run) == ("aa" * 32, assignment.run_id.hex())
    assert begun.time == "2023-11-14T22:13:20+00:00"  # date -u -d @1700000000
    assert (begun.complete, begun.survivors, begun.outcome) == (False, (), "")
    await trail.sent(FIRST)
    await trail.survivors(assignment, FIRST, SurvivorSet(survivors=(0, 2), bundles=(0,)))
    await trail.ended(FIRST, RoundOutcome.COMMITTED)
    (whole,) = read_audit(tmp_path / "state").departures
    names = tuple(assignment.members[i].site for i in (0, 2))
    assert whole == dataclasses.replace(begun, complete=True, survivors=names, outcome="committed")
    assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600


async def test_a_round_of_which_nothing_left_is_not_listed(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path, ManualClock())
    await trail.ended(FIRST, RoundOutcome.COMMITTED)
    assert not (tmp_path / FILE_NAME).exists()
    assert read_audit(tmp_path).departures == ()


async def test_a_round_that_this_site_left_says_so(tmp_path: Path, assignment: Assignment) -> None:
    trail = AuditTrail(tmp_path, ManualClock())
    await trail.sending(assignment, FIRST, header())
    await trail.ended(FIRST, None)
    await trail.ended(FIRST, RoundOutcome.COMMITTED)  # too late: the round was over for this site
    assert [each.outcome for each in read_audit(tmp_path).departures] == ["left"]


async def test_heads_of_the_coordinator_s_log_are_kept_beside_what_left(tmp_path: Path, assignment: Assignment) -> None:
    trail = AuditTrail(tmp_path, ManualClock())
    await trail.witness(assignment.run_id, 3, 17, FIRST)
    await trail.sending(assignment, FIRST, header())
    await trail.witness(assignment.run_id, 4, 20, SECOND)
    await trail.witness(assignment.run_id, 4, 20, SECOND)
    report = read_audit(tmp_path)
    assert [(each.round, each.sequence, each.head) for each in report.heads] == [
        (3, 17, FIRST.hex()),
        (4, 20, SECOND.hex()),
    ]
    assert report.heads[0].run == assignment.run_id.hex()
    assert (len(report.departures), report.unreadable) == (1, ())


@pytest.mark.parametrize("change", [{"sequence": "x"}, {"head": "zz"}, {"head": 7}, {"time": "now"}, {"round": None}])
def test_a_head_that_is_none_is_an_unreadable_line(change: dict[str, object]) -> None:
    entry = {"time": "2026-01-01T00:00:00", "event": "head", "run": "ab", "round": 1, "sequence": 2, "head": "cd"}
    assert gather([json.dumps(entry).encode()]).unreadable == ()
    report = gather([json.dumps(entry | change).encode()])
    assert (report.heads, report.unreadable) == ((), (1,))


async def test_the_same_bytes_again_are_one_departure_and_other_bytes_are_another(
    tmp_path: Path, assignment: Assignment
) -> None:
    for content in (b"\xaa" * 32, b"\xaa" * 32, b"\xbb" * 32):
        trail = AuditTrail(tmp_path, ManualClock())  # each time a new process
        await trail.sending(assignment, FIRST, header(content))
    await trail.sent(FIRST)
    listed = read_audit(tmp_path).departures
    assert [(each.sha256[:2], each.complete) for each in listed] == [("aa", False), ("bb", True)]


async def test_a_line_that_a_power_cut_broke_off_costs_itself_alone(tmp_path: Path, assignment: Assignment) -> None:
    path = tmp_path / FILE_NAME
    trail = AuditTrail(tmp_path, ManualClock())
    await trail.sending(assignment, FIRST, header())
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    await trail.sending(assignment, SECOND, header())
    report = read_audit(tmp_path)
    assert [each.assignment for each in report.departures] == [FIRST.hex(), SECOND.hex()]
    assert report.unreadable == (2,)
    assert path.read_bytes().startswith(whole)


async def test_what_cannot_be_noted_is_not_sent_and_what_follows_ends_nothing(
    tmp_path: Path, assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail = AuditTrail(tmp_path, ManualClock())
    await trail.sending(assignment, FIRST, header())

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("edge_agent.audit.trail.os.open", full)
    with pytest.raises(ResourceError) as refused:
        await trail.sending(assignment, SECOND, header())
    assert refused.value.reason is ErrorReason.DISK_FULL
    await trail.sent(FIRST)
    await trail.ended(FIRST, RoundOutcome.COMMITTED)
    monkeypatch.undo()
    assert [each.complete for each in read_audit(tmp_path).departures] == [False]


@given(st.lists(st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"null", b'{"event":"sent"}', b"[" * 9000])))
def test_garbage_is_counted_and_nothing_else(lines: list[bytes]) -> None:
    report = gather(lines)
    assert report.departures == ()
    assert report.unreadable == tuple(range(1, len(lines) + 1))


@pytest.mark.parametrize("change", [{"round": []}, {"time": "yesterday"}, {"event": "sold"}, {"bytes": None}])
def test_an_altered_entry_is_unreadable(change: dict[str, object]) -> None:
    entry = {
        **{"time": "2026-11-27T00:00:00+00:00", "event": "sending", "assignment": "01", "job": "j", "run": "00"},
        **{"round": 1, "sha256": "aa", "bytes": 5},
    }
    assert gather([json.dumps(entry).encode()]).unreadable == ()
    assert gather([json.dumps(entry | change).encode()]).unreadable == (1,)


async def test_the_command_shows_it(tmp_path: Path, assignment: Assignment) -> None:
    (tmp_path / "agent.toml").write_text("")
    command = ["audit", "--config", str(tmp_path / "agent.toml")]
    assert CliRunner().invoke(cli, command).stdout == "Nothing has left this PC.\n"
    trail = AuditTrail(tmp_path / "state", ManualClock())
    await trail.sending(assignment, FIRST, header())
    await trail.sent(FIRST)
    await trail.survivors(assignment, FIRST, SurvivorSet(survivors=(0, 2), bundles=(0,)))
    assert CliRunner().invoke(cli, command).stdout == (
        f"2023-11-14T22:13:20+00:00  job round 7  1000 bytes  sha256 {'aa' * 32}"
        "  outcome not known, summed with site-0, site-2\n"
    )
    listed = json.loads(CliRunner().invoke(cli, [*command, "--json"]).stdout)
    assert [each["sha256"] for each in listed["departures"]] == ["aa" * 32]
