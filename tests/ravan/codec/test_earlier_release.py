"""Programs of the last release and of this one understand each other: by the descriptors, and by what is read of them.

The last release's messages are built from its committed descriptors, `proto/baseline.binpb`; no code of it is needed.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from earlier_release import choices, filled, last_release
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from ravan.codec import enums
from ravan.codec.instructions import watch_from_wire
from ravan.codec.profiles import hardware_from_wire, heartbeat_from_wire
from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import Digest, JobId
from ravan.manifest.instructions import Greeting, JobEnded, Numbered
from ravan.manifest.phases import AgentActivity, DropReason, RoundOutcome
from ravan.manifest.profile import LimitSource
from ravan.wire.v1 import errors_pb2, hardware_pb2, site_service_pb2

LAST = last_release()
MODULES = [
    importlib.import_module(f"ravan.wire.v1.{name}_pb2")
    for name in (
        "common",
        "enrolment_service",
        "errors",
        "hardware",
        "operator_service",
        "peer_service",
        "round",
        "secagg",
        "site_service",
        "transfer_service",
    )
]


def this_release(name: str) -> type[Message]:
    short = name.rpartition(".")[2]
    found: type[Message] = next(getattr(module, short) for module in MODULES if hasattr(module, short))
    return found


def is_beyond(message: Message) -> bool:
    """Tell whether the message, or one within it, has fields that its release does not know."""
    if len(UnknownFieldSet(message)):
        return True
    inner = (value for field, value in message.ListFields() if field.message_type is not None)
    return any(is_beyond(each) for value in inner for each in ([value] if isinstance(value, Message) else value))


def as_plain(message: Message, *, numbers: bool = False) -> Any:
    """Return fields by name, and words of enums by name or, where one side lacks the word, by number."""
    return MessageToDict(message, preserving_proto_field_name=True, use_integers_for_enums=numbers)


def without(newer: Any, older: Any) -> Any:
    """Return what the older release shows of it: keys that it does not know are left out."""
    if isinstance(newer, dict):
        return {key: without(value, older[key]) for key, value in newer.items() if key in older}
    if isinstance(newer, list):
        return [without(*pair) for pair in zip(newer, older, strict=True)]
    return newer


@pytest.mark.parametrize("name", LAST.names)
def test_what_the_last_release_sends_is_read_whole(name: str) -> None:
    old, new = LAST.message(name), this_release(name)
    for choice in range(choices(old)):
        sent = filled(old, choice=choice)
        read = new.FromString(sent.SerializeToString())
        assert not is_beyond(read)
        assert as_plain(read) == as_plain(sent)


@pytest.mark.parametrize("name", LAST.names)
def test_what_this_release_sends_is_read_by_the_last_which_passes_the_rest_on(name: str) -> None:
    old, new = LAST.message(name), this_release(name)
    for choice in range(choices(old)):
        # The members of a oneof that the last release knows come first.
        sent = filled(new, choice=choice)
        read = old.FromString(sent.SerializeToString())
        shown = as_plain(read, numbers=True)
        assert without(as_plain(sent, numbers=True), shown) == shown
        assert new.FromString(read.SerializeToString()) == sent


def test_the_check_would_notice_a_field_that_changed_its_meaning() -> None:
    heartbeat = LAST.message("ravan.wire.v1.HeartbeatRequest")
    other = site_service_pb2.LeaveRoundRequest.FromString(filled(heartbeat).SerializeToString())
    assert is_beyond(other)
    assert as_plain(other) != as_plain(filled(heartbeat))


def test_fields_were_added_since() -> None:
    """Else the tests above compare a release with itself."""
    added = {
        name
        for name in LAST.names
        if len(this_release(name).DESCRIPTOR.fields) > len(LAST.message(name).DESCRIPTOR.fields)
    }
    assert "ravan.wire.v1.JobEnded" in added


# What is read of a last release's messages


def old(name: str, **values: Any) -> bytes:
    return LAST.message(f"ravan.wire.v1.{name}")(**values).SerializeToString()


def test_a_coordinator_of_the_last_release_greets_and_ends_jobs() -> None:
    greeting = old("WatchResponse", greeting={"heartbeat_interval_s": 5, "coordinator_time": 1.5})
    assert watch_from_wire(site_service_pb2.WatchResponse.FromString(greeting)) == Greeting(
        heartbeat_interval_s=5, coordinator_time=1.5
    )
    ended = old("WatchResponse", sequence=3, job_ended={"job_id": "orders-1", "state": 4})
    state = enums.JOB_STATE.from_wire(site_service_pb2.JobEnded(state=4).state)  # type: ignore[arg-type] # a number
    assert watch_from_wire(site_service_pb2.WatchResponse.FromString(ended)) == Numbered(
        sequence=3, instruction=JobEnded(job_id=JobId("orders-1"), state=state, state_digest=Digest(b""))
    )


# What a later release may say that this one has no word for

UNKNOWN: Any = 250


def test_a_later_release_s_figures_are_taken_without_the_word_beside_them() -> None:
    heartbeat = site_service_pb2.HeartbeatRequest(process_id=bytes(16), activity=UNKNOWN, done=3)
    assert heartbeat_from_wire(heartbeat).activity is AgentActivity.IDLE
    profile = hardware_pb2.HardwareProfile(
        cores=1, ram_total_bytes=1, ram_limit_bytes=1, ram_limit_source=UNKNOWN, agent_version="9.0"
    )
    assert hardware_from_wire(profile).ram_limit_source is LimitSource.MACHINE


def test_a_later_release_s_ends_and_departures_are_ends_and_departures() -> None:
    assert enums.DROP_REASON.from_wire(UNKNOWN) is DropReason.INTERNAL
    result = site_service_pb2.RoundResult(run_id=bytes(16), round=1, outcome=UNKNOWN)
    read = watch_from_wire(site_service_pb2.WatchResponse(sequence=1, round_result=result))
    assert isinstance(read, Numbered)
    assert getattr(read.instruction, "outcome") is RoundOutcome.INTERNAL  # noqa: B009 - one of several kinds


def test_a_later_release_s_errors_keep_their_sentence() -> None:
    detail = errors_pb2.ErrorDetail(reason=UNKNOWN, message="No.", next_step="Wait.")
    read = errors_pb2.ErrorDetail.FromString(detail.SerializeToString())
    assert enums.ERROR_REASON.from_wire(read.reason) is ErrorReason.INTERNAL
    assert read.message == "No."


@pytest.mark.parametrize(
    "instruction",
    [
        site_service_pb2.WatchResponse(sequence=1),
        site_service_pb2.WatchResponse(
            sequence=1, job_ended=site_service_pb2.JobEnded(job_id="orders-1", state=UNKNOWN)
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_with_a_sentence(instruction: site_service_pb2.WatchResponse) -> None:
    with pytest.raises(ProtocolError) as caught:
        watch_from_wire(instruction)
    assert caught.value.reason is ErrorReason.MALFORMED
    assert "same release" in caught.value.next_step


def test_unset_words_are_refused_where_they_must_be_set() -> None:
    for closed in (enums.DROP_REASON, enums.ROUND_OUTCOME, enums.JOB_STATE):
        unset: Any = 0
        with pytest.raises(ProtocolError):
            closed.from_wire(unset)
