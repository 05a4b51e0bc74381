"""Whatever arrives becomes a sound value or ProtocolError (MALFORMED), and each broken rule is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, find, given, settings
from hypothesis import strategies as st
from manifest_values import assignments, headers, instructions, plans, reveals, rosters, round_refs

from ravan.codec.documents import (
    decode_assignment,
    decode_plan,
    decode_roster,
    encode_assignment,
    encode_plan,
    encode_roster,
)
from ravan.codec.instructions import decode_instruction, encode_instruction, watch_from_wire
from ravan.codec.profiles import hardware_from_wire, heartbeat_from_wire, job_profile_from_wire
from ravan.codec.references import file_from_wire, file_to_wire
from ravan.codec.secagg_messages import Submission, header_from_wire, header_to_wire, submission_from_wire
from ravan.codec.secagg_messages import submission_to_wire as to_wire
from ravan.errors import ErrorReason, ProtocolError
from ravan.ids import BlockId, BlockKind, Digest
from ravan.manifest.assignment import Assignment, BlockSpec, Tile
from ravan.manifest.plan import NO_DIGEST, BasisKind, JobPlan, ModelFile, Task
from ravan.wire.v1 import hardware_pb2, round_pb2, secagg_pb2, site_service_pb2

Read = Callable[[bytes], object]
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def reader(message: Any, convert: Callable[[Any], object]) -> Read:
    def read(raw: bytes) -> object:
        try:
            parsed = message.FromString(raw)
        except Exception:
            return None
        return convert(parsed)

    return read


READERS: dict[str, Read] = {
    "plan": decode_plan,
    "assignment": decode_assignment,
    "roster": decode_roster,
    "instruction": decode_instruction,
    "watch": reader(site_service_pb2.WatchResponse, watch_from_wire),
    "submission": reader(secagg_pb2.SecureAggregationMessage, submission_from_wire),
    "header": reader(secagg_pb2.MaskedVectorHeader, header_from_wire),
    "hardware": reader(hardware_pb2.HardwareProfile, hardware_from_wire),
    "job profile": reader(hardware_pb2.JobProfile, job_profile_from_wire),
    "heartbeat": reader(site_service_pb2.HeartbeatRequest, heartbeat_from_wire),
}


def sound_or_malformed(read: Read, raw: bytes) -> bool:
    """Tell whether it was read; let nothing but MALFORMED through."""
    refusal: ProtocolError | None = None
    try:
        read(raw)
    except ProtocolError as error:
        refusal = error
    if refusal is None:
        return True
    assert refusal.reason is ErrorReason.MALFORMED
    assert str(refusal).endswith(".")
    assert refusal.next_step
    return False


@pytest.mark.parametrize("name", READERS)
@quick
@given(raw=st.binary(max_size=120))
def test_any_bytes_are_sound_or_malformed(name: str, raw: bytes) -> None:
    sound_or_malformed(READERS[name], raw)


@quick
@given(st.data())
def test_damaged_messages_are_sound_or_malformed(data: st.DataObject) -> None:
    name, raw = data.draw(
        st.one_of(
            plans().map(lambda v: ("plan", encode_plan(v))),
            assignments().map(lambda v: ("assignment", encode_assignment(v))),
            rosters().map(lambda v: ("roster", encode_roster(v))),
            instructions.map(lambda v: ("instruction", encode_instruction(v))),
            st.tuples(round_refs, headers).map(lambda v: ("header", header_to_wire(*v).SerializeToString())),
            st.tuples(round_refs, reveals).map(
                lambda v: ("submission", to_wire(Submission(round=v[0], index=1, message=v[1])).SerializeToString())
            ),
        )
    )
    assert sound_or_malformed(READERS[name], raw)
    position = data.draw(st.integers(0, len(raw) - 1))
    damaged = raw[:position] + data.draw(st.binary(max_size=3)) + raw[position + 1 :]
    sound_or_malformed(READERS[name], damaged)


def refuse(read: Read, raw: bytes, match: str) -> None:
    with pytest.raises(ProtocolError, match=match) as caught:
        read(raw)
    assert caught.value.reason is ErrorReason.MALFORMED


PLAN = find(plans(), lambda plan: len(plan.matrices) > 1 and len(plan.dense) > 1 and len(plan.model_files) > 1)
ROUND = find(assignments(), lambda each: len(each.tiles) > 1 and len(each.members) > 1 and len(each.blocks) > 2)
DRAWN, LED = (replace(PLAN.adapter, basis=kind) for kind in (BasisKind.NORMAL, BasisKind.ALIGNED))


@pytest.mark.parametrize(
    ("plan", "match"),
    [
        (replace(PLAN, matrices=PLAN.matrices[1:]), "matrices are not numbered"),
        (replace(PLAN, matrices=()), "heads without matrices"),
        (replace(PLAN, dense=PLAN.dense[::-1]), "dense parameters are not numbered"),
        (replace(PLAN, model_files=()), "model files are missing"),
        (replace(PLAN, model_files=PLAN.model_files[::-1]), "not in order"),
        (replace(PLAN, job_name="two\nlines"), "control characters"),
        (replace(PLAN, training=replace(PLAN.training, steps=0)), "number of steps is 0"),
        (replace(PLAN, training=replace(PLAN.training, learning_rate=float("nan"))), "learning rate is nan"),
        (replace(PLAN, training=replace(PLAN.training, learning_rate_decay=0.0)), "decay is 0.0; it must be above 0"),
        (replace(PLAN, training=replace(PLAN.training, learning_rate_decay=1.5)), "decay is 1.5; it must be at most 1"),
        (replace(PLAN, training=replace(PLAN.training, labels=("a", "a"))), "labels are not all different"),
        (replace(PLAN, adapter=replace(PLAN.adapter, seed=bytes(31))), "31 bytes instead of 32"),
        (replace(PLAN, adapter=replace(PLAN.adapter, rank=0)), "rank is 0"),
        (replace(PLAN, directions=Digest(bytes(31))), "digest of directions has 31 bytes instead of 32"),
        (replace(PLAN, directions=Digest(bytes(32)), adapter=DRAWN), "lack the directions .* or have no use"),
        (replace(PLAN, directions=NO_DIGEST, adapter=LED), "lack the directions"),
        (replace(PLAN, matrices=(replace(PLAN.matrices[0], rank=1 << 31), *PLAN.matrices[1:])), "rank of a matrix is"),
    ],
)
def test_a_plan_that_does_not_hold_together_is_refused(plan: JobPlan, match: str) -> None:
    refuse(decode_plan, encode_plan(plan), match)


COMPLETE = replace(
    PLAN.training,
    prompt="Order: {text}\nSubsystem:",
    image_side=14,
    channels=("oil",),
    window_step=2,
    labels=("a", "b"),
)


def plan_for(task: Task, **changes: Any) -> JobPlan:
    return replace(PLAN, training=replace(COMPLETE, task=task, **changes))


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        (Task.IMAGE_CLASSIFICATION, {"image_side": 0}),
        (Task.SERIES_CLASSIFICATION, {"channels": ()}),
        (Task.SERIES_CLASSIFICATION, {"window_step": 0}),
        (Task.CAUSAL_LM, {"prompt": ""}),
        (Task.CAUSAL_LM, {"prompt": "Subsystem:"}),
        (Task.CAUSAL_LM, {"prompt": "{text} {text}"}),
    ],
)
def test_a_plan_that_does_not_say_what_its_examples_look_like_is_refused(task: Task, changes: dict[str, Any]) -> None:
    refuse(decode_plan, encode_plan(plan_for(task, **changes)), f"what the examples of {task} look like")
    # What one task needs is nothing to the others.
    for other in set(Task) - {task}:
        sound = plan_for(other, **changes)
        assert decode_plan(encode_plan(sound)) == sound


@pytest.mark.parametrize("character", [*map(chr, range(32)), "\x7f"])
def test_a_prompt_may_hold_line_feeds_and_no_other_control_character(character: str) -> None:
    plan = plan_for(Task.CAUSAL_LM, prompt=f"Order: {{text}}{character}Subsystem:")
    if character == "\n":
        assert decode_plan(encode_plan(plan)) == plan
    else:
        refuse(decode_plan, encode_plan(plan), "prompt is longer than 1000 characters or holds control characters")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image_side": (1 << 14) + 1}, "side of an image is 16385"),
        ({"channels": ("oil", "oil")}, "channels are not all different"),
        ({"channels": ("",)}, "channel is empty"),
        ({"prompt": "{text}" + "a" * 995}, "prompt is longer than 1000"),
    ],
)
def test_task_settings_out_of_bounds_are_refused(changes: dict[str, Any], match: str) -> None:
    refuse(decode_plan, encode_plan(plan_for(Task.SEQUENCE_CLASSIFICATION, **changes)), match)


STRAY = BlockId(BlockKind.HEAD, 9, 99, 9)
FIRST, SECOND, *_ = ROUND.members


def many_tiles() -> Assignment:
    heads = [BlockId(BlockKind.HEAD, 0, matrix, 0) for matrix in range(17)]
    return replace(
        ROUND,
        blocks=tuple(BlockSpec(block_id=head, length=1, clip=1.0) for head in heads),
        tiles=tuple(Tile(tile_id=i, blocks=(head,)) for i, head in enumerate(heads)),
    )


@pytest.mark.parametrize(
    ("assignment", "match"),
    [
        (replace(ROUND, blocks=()), "blocks are missing"),
        (replace(ROUND, blocks=ROUND.blocks[::-1]), "not dense ones first"),
        (replace(ROUND, blocks=(ROUND.blocks[0], *ROUND.blocks)), "listed twice"),
        (replace(ROUND, blocks=(replace(ROUND.blocks[0], clip=float("inf")), *ROUND.blocks[1:])), "clip of a block"),
        (replace(ROUND, blocks=(replace(ROUND.blocks[0], clip=0.0), *ROUND.blocks[1:])), "clip of a block"),
        (replace(ROUND, blocks=(replace(ROUND.blocks[0], length=0), *ROUND.blocks[1:])), "length of a block"),
        (replace(ROUND, tiles=ROUND.tiles[::-1]), "tiles list is not strictly ascending"),
        (replace(ROUND, tiles=(Tile(tile_id=0, blocks=(STRAY,)),)), "not a head of this round"),
        (replace(ROUND, tiles=(*ROUND.tiles, replace(ROUND.tiles[0], tile_id=15))), "not all different"),
        (many_tiles(), "17 tiles"),
        (replace(ROUND, members=()), "members are none"),
        (replace(ROUND, members=ROUND.members[1:]), "not numbered from 0"),
        (replace(ROUND, members=(FIRST, replace(SECOND, site=FIRST.site))), "sites are not all different"),
        (
            replace(ROUND, members=(FIRST, replace(SECOND, identity_key=FIRST.identity_key))),
            "identity keys are not all different",
        ),
        (replace(ROUND, members=(replace(FIRST, tiles=(14,)),)), "tile that is not in the round"),
        (replace(ROUND, members=(replace(FIRST, site="Not A Site"),)), "lower-case letters"),  # type: ignore[arg-type]
        (replace(ROUND, round_number=0), "round number is 0"),
        (replace(ROUND, state_digest=Digest(b"")), "0 bytes instead of 32"),
    ],
)
def test_an_assignment_that_does_not_hold_together_is_refused(assignment: Assignment, match: str) -> None:
    refuse(decode_assignment, encode_assignment(assignment), match)


@pytest.mark.parametrize("read", [decode_plan, decode_assignment, decode_roster])
def test_another_protocol_version_is_refused(read: Read) -> None:
    # field 1 is the version in all three documents
    refuse(read, round_pb2.JobPlan(protocol_version=2).SerializeToString(), "protocol version 2")


@pytest.mark.parametrize("path", ["../evil", "a/b", "a\\b", "c:model", "..", ""])
def test_a_model_file_outside_its_folder_is_refused(path: str) -> None:
    wire = file_to_wire(ModelFile(path=path, sha256=Digest(bytes(32)), size_bytes=1))
    with pytest.raises(ProtocolError, match="name") as caught:
        file_from_wire(wire)
    assert caught.value.reason is ErrorReason.MALFORMED


def test_a_share_names_its_bundle() -> None:
    lonely = secagg_pb2.RevealedShare(owner=1, self_masks=secagg_pb2.SelfMaskShares(shares=[bytes(33)]))
    wire = secagg_pb2.SecureAggregationMessage(
        reveal=secagg_pb2.RevealedShares(index=1, shares=[lonely], survivor_digest=bytes(32))
    )
    wire.round.run_id, wire.round.round = bytes(16), 1
    wire.round.assignment_digest = wire.round.roster_digest = bytes(32)
    with pytest.raises(ProtocolError, match="does not name its bundles"):
        submission_from_wire(wire)
