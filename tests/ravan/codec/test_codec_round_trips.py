"""What was encoded comes back equal, and equal values have equal bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from manifest_values import (
    assignments,
    deliveries,
    entries,
    hardware,
    headers,
    heartbeats,
    instructions,
    job_profiles,
    members,
    plans,
    reveals,
    rosters,
    round_refs,
    sealed,
    survivor_signatures,
)

from ravan.codec.documents import (
    decode_assignment,
    decode_plan,
    decode_roster,
    encode_assignment,
    encode_plan,
    encode_roster,
)
from ravan.codec.instructions import (
    decode_instruction,
    encode_instruction,
    greeting_to_wire,
    numbered_to_wire,
    watch_from_wire,
)
from ravan.codec.profiles import (
    hardware_from_wire,
    hardware_to_wire,
    heartbeat_from_wire,
    heartbeat_to_wire,
    job_profile_from_wire,
    job_profile_to_wire,
)
from ravan.codec.secagg_messages import (
    AgentMessage,
    Submission,
    delivery_from_wire,
    delivery_to_wire,
    header_from_wire,
    header_to_wire,
    submission_from_wire,
    submission_to_wire,
)
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import Greeting, Instruction, Numbered, RoundRef
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.plan import NO_DIGEST, BasisKind, JobPlan, Precision, Task
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.messages import MaskedHeader, ShareDelivery
from ravan.wire.v1 import hardware_pb2, round_pb2, secagg_pb2, site_service_pb2

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(plans())
def test_a_plan_survives_its_encoding(plan: JobPlan) -> None:
    payload = encode_plan(plan)
    assert decode_plan(payload) == plan
    assert encode_plan(decode_plan(payload)) == payload


# Written before jobs had other tasks than to classify texts.
OLD_PLAN = bytes.fromhex(
    "08011210000102030405060708090a0b0c0d0e0f1a0f6f72646572732d306131623263336422066f72646572732a0474696e"
    "7932330a0b636f6e6669672e6a736f6e12240a20b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e34"
    "391010023a2a0801100218012220000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f3001422f"
    "12076c617965722e30180420062a206089164ff4da9c7fe4c41e4af1cd43583f386450d5cd27d9dab0a0eccf668629423108"
    "0112076c617965722e31180420062a208653b91715a463273230887504be46f07a79ca5658554956900d49c275f1e16b4a14"
    "120f636c61737369666965722e626961731a01035240080112066f72646572731a0470756d701a06656e67696e651a036361"
    "6220102804300a380141fca9f1d24d62503f497b14ae47e17a843f59cdccccccccccec3f5801"
)


def test_the_plan_of_an_older_text_job_is_read_and_keeps_its_digest() -> None:
    plan = decode_plan(OLD_PLAN)
    training = plan.training
    assert (training.task, training.labels) == (Task.SEQUENCE_CLASSIFICATION, ("pump", "engine", "cab"))
    assert (training.max_length, training.learning_rate_decay) == (16, 0.9)
    assert (training.prompt, training.image_side, training.channels, training.window_step) == ("", 0, (), 0)
    # Agents compare plans by the digest of their bytes.
    assert encode_plan(plan) == OLD_PLAN


@quick
@given(plans())
def test_a_float32_plan_has_the_bytes_it_had_before_there_was_a_choice(plan: JobPlan) -> None:
    adapter = replace(plan.adapter, basis=BasisKind.GRAM_SCHMIDT)
    plan = replace(plan, adapter=adapter, directions=NO_DIGEST)
    payload = encode_plan(replace(plan, precision=Precision.FLOAT32))
    wire = round_pb2.JobPlan.FromString(payload)
    assert max(field.number for field, _ in wire.ListFields()) < wire.DESCRIPTOR.fields_by_name["precision"].number
    narrow = encode_plan(replace(plan, precision=Precision.INT8))
    assert narrow.startswith(payload)
    assert len(narrow) == len(payload) + 2


@quick
@given(assignments())
def test_an_assignment_survives_its_encoding(assignment: Assignment) -> None:
    payload = encode_assignment(assignment)
    assert decode_assignment(payload) == assignment
    assert encode_assignment(decode_assignment(payload)) == payload


@quick
@given(rosters())
def test_a_roster_survives_its_encoding(roster: Roster) -> None:
    payload = encode_roster(roster)
    assert decode_roster(payload) == roster
    assert encode_roster(decode_roster(payload)) == payload


@quick
@given(instructions, st.integers(1, 1 << 40))
def test_an_instruction_survives_stream_and_database(instruction: Instruction, sequence: int) -> None:
    numbered = Numbered(sequence=sequence, instruction=instruction)
    raw = numbered_to_wire(numbered).SerializeToString()
    assert watch_from_wire(site_service_pb2.WatchResponse.FromString(raw)) == numbered
    assert decode_instruction(encode_instruction(instruction)) == instruction


@pytest.mark.parametrize("timeline", [b"", b"t" * 16])
def test_a_greeting_carries_no_sequence_number(timeline: bytes) -> None:
    greeting = Greeting(heartbeat_interval_s=5, coordinator_time=1.5, timeline=timeline, return_spread_s=7.25)
    wire = greeting_to_wire(greeting)
    assert wire.sequence == 0
    assert watch_from_wire(wire) == greeting


@quick
@given(round_refs, members, st.one_of(sealed, reveals))
def test_shares_and_reveals_survive_with_their_sender(round_ref: RoundRef, index: int, message: AgentMessage) -> None:
    submission = Submission(round=round_ref, index=index, message=message)
    raw = submission_to_wire(submission).SerializeToString()
    assert submission_from_wire(secagg_pb2.SecureAggregationMessage.FromString(raw)) == submission


@quick
@given(round_refs, survivor_signatures)
def test_a_survivor_signature_names_its_own_member(round_ref: RoundRef, message: AgentMessage) -> None:
    assert not isinstance(message, RosterEntry)
    submission = Submission(round=round_ref, index=message.index, message=message)  # type: ignore[union-attr]
    assert submission_from_wire(submission_to_wire(submission)) == submission


@quick
@given(round_refs, entries)
def test_an_advertisement_needs_no_roster(round_ref: RoundRef, message: RosterEntry) -> None:
    bare = replace(round_ref, roster_digest=Digest(b""))
    submission = Submission(round=bare, index=message.index, message=message)
    assert submission_from_wire(submission_to_wire(submission)) == submission


@quick
@given(round_refs, headers, deliveries)
def test_headers_and_deliveries_survive(round_ref: RoundRef, header: MaskedHeader, delivery: ShareDelivery) -> None:
    assert header_from_wire(header_to_wire(round_ref, header)) == (round_ref, header)
    assert delivery_from_wire(delivery_to_wire(round_ref, delivery)) == (round_ref, delivery)


@quick
@given(hardware, job_profiles, heartbeats)
def test_profiles_and_heartbeats_survive(machine: HardwareProfile, cost: JobProfile, beat: Heartbeat) -> None:
    raw = hardware_to_wire(machine).SerializeToString()
    assert hardware_from_wire(hardware_pb2.HardwareProfile.FromString(raw)) == machine
    assert job_profile_from_wire(job_profile_to_wire(cost)) == cost
    assert heartbeat_from_wire(heartbeat_to_wire(beat)) == beat
