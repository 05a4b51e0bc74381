"""Serialised messages: signed documents, what headquarters tells a site, and what a site tells headquarters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from fuzz.target import Format, Refusals, Target, require
from fuzz.values import (
    ALIGNED_PLAN,
    ASSIGNMENT,
    CALIBRATED_PLAN,
    ENTRIES,
    JOB,
    MANIFEST_KEY,
    PLAN,
    ROSTER,
    ROUND,
    RUN,
    SHARE,
    SIGNATURE,
    digest,
)
from ravan.codec import fields
from ravan.codec.documents import (
    decode_assignment,
    decode_plan,
    decode_roster,
    document_from_wire,
    document_to_wire,
    encode_assignment,
    encode_plan,
    encode_roster,
    open_document,
    sign_document,
)
from ravan.codec.instructions import (
    decode_instruction,
    encode_instruction,
    greeting_to_wire,
    numbered_to_wire,
    watch_from_wire,
    watch_request_from_wire,
)
from ravan.codec.profiles import (
    hardware_from_wire,
    hardware_to_wire,
    heartbeat_from_wire,
    heartbeat_to_wire,
    job_profile_from_wire,
    job_profile_to_wire,
)
from ravan.codec.references import file_from_wire, file_to_wire
from ravan.codec.secagg_messages import (
    Submission,
    header_from_wire,
    header_to_wire,
    submission_from_wire,
    submission_to_wire,
)
from ravan.errors import ErrorReason, ProtocolError
from ravan.identity.keys import raw_public
from ravan.manifest.documents import DocumentKind
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    Greeting,
    Instruction,
    JobEnded,
    MaskAndUpload,
    Numbered,
    Prepare,
    Reveal,
    RoundResult,
    Train,
)
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity, JobState, RoundOutcome
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource
from ravan.secagg.messages import (
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    SeedShare,
    SelfMaskShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.wire.v1 import common_pb2, hardware_pb2, round_pb2, secagg_pb2, site_service_pb2

Value = TypeVar("Value")

MALFORMED: Final[Refusals] = {ProtocolError: frozenset({ErrorReason.MALFORMED})}


def stored(
    name: str,
    message: type[Message],
    decode: Callable[[bytes], Value],
    encode: Callable[[Value], bytes],
    values: Iterable[Value],
) -> Format:
    """Return the format of values that have a serialised form of their own."""

    def read(data: bytes) -> None:
        value = decode(data)
        require(decode(encode(value)) == value, f"the {name} does not survive its encoding")

    return Format(name=name, read=read, seeds=lambda: map(encode, values), message=message)


def sent(
    name: str,
    message: type[Message],
    from_wire: Callable[[Any], Value],
    to_wire: Callable[[Value], Message],
    values: Iterable[Value],
) -> Format:
    """Return the format of values that travel as a message; gRPC parses it as `fields.parse` does."""
    return stored(
        name,
        message,
        lambda data: from_wire(fields.parse(message, data, name)),
        lambda value: to_wire(value).SerializeToString(deterministic=True),
        values,
    )


def _open_plan(data: bytes) -> None:
    signed = document_from_wire(fields.parse(common_pb2.SignedDocument, data, "signed document"))
    plan, _ = open_document(DocumentKind.PLAN, signed, raw_public(MANIFEST_KEY))
    require(plan == PLAN, "a document that nobody signed was opened")


def _signed_plan() -> Iterable[bytes]:
    signed = sign_document(DocumentKind.PLAN, encode_plan(PLAN), MANIFEST_KEY)
    yield document_to_wire(signed).SerializeToString()


DOCUMENTS: Final = Target(
    name="documents",
    formats=(
        stored("plan", round_pb2.JobPlan, decode_plan, encode_plan, [PLAN, CALIBRATED_PLAN, ALIGNED_PLAN]),
        stored("assignment", round_pb2.Assignment, decode_assignment, encode_assignment, [ASSIGNMENT]),
        stored("roster", round_pb2.Roster, decode_roster, encode_roster, [ROSTER]),
        Format(name="signed plan", read=_open_plan, seeds=_signed_plan, message=common_pb2.SignedDocument),
    ),
    refusals={ProtocolError: frozenset({ErrorReason.MALFORMED, ErrorReason.SIGNATURE_INVALID})},
)

_DOCUMENT = sign_document(DocumentKind.PLAN, b"", MANIFEST_KEY)
_SURVIVORS = SurvivorSet(survivors=(0, 1, 2), bundles=(0, 1))
_SIGNATURES = tuple(SurvivorSignature(index=n, signature=SIGNATURE) for n in (0, 2))
_SEALED = {1: bytes(20), 2: bytes(21)}
_INSTRUCTIONS: Final[tuple[Instruction, ...]] = (
    Prepare(plan=_DOCUMENT),
    Train(assignment=_DOCUMENT),
    ExchangeShares(roster=_DOCUMENT),
    MaskAndUpload(round=ROUND, delivery=ShareDelivery(mask_set=(0, 1, 2), ciphertexts=_SEALED)),
    ConfirmSurvivors(round=ROUND, survivors=_SURVIVORS),
    Reveal(round=ROUND, request=RevealRequest(survivor_set=_SURVIVORS, signatures=_SIGNATURES)),
    RoundResult(
        run_id=RUN, round_number=3, outcome=RoundOutcome.COMMITTED, state_digest=digest("state"), dropped=False
    ),
    JobEnded(job_id=JOB, state=JobState.COMPLETED, state_digest=digest("state"), round_number=3),
)


_WATCHED: Final[tuple[Greeting | Numbered, ...]] = (
    Greeting(heartbeat_interval_s=5, coordinator_time=1.5e9, timeline=b"t" * 16),
    *(Numbered(sequence=n, instruction=each) for n, each in enumerate(_INSTRUCTIONS, start=1)),
)


def _watch_to_wire(value: Greeting | Numbered) -> Message:
    return greeting_to_wire(value) if isinstance(value, Greeting) else numbered_to_wire(value)


INSTRUCTIONS: Final = Target(
    name="instructions",
    formats=(
        sent(
            "watch response",
            site_service_pb2.WatchResponse,
            watch_from_wire,
            _watch_to_wire,
            _WATCHED,
        ),
        stored(
            "stored instruction",
            site_service_pb2.WatchResponse,
            decode_instruction,
            encode_instruction,
            _INSTRUCTIONS[3:],
        ),
    ),
    refusals=MALFORMED,
)

_REVEALED = RevealedShares(
    survivor_digest=digest("survivors"),
    shares={0: SelfMaskShares(shares={0: SHARE, 1: SHARE}), 2: SeedShare(share=SHARE)},
)
_SUBMISSIONS: Final = (
    Submission(round=ROUND, index=0, message=ENTRIES[0]),
    Submission(round=ROUND, index=0, message=SealedShares(ciphertexts=_SEALED)),
    Submission(round=ROUND, index=0, message=_SIGNATURES[0]),
    Submission(round=ROUND, index=0, message=_REVEALED),
)
_HEADER: Final = MaskedHeader(
    index=0,
    mask_set_digest=digest("mask set"),
    bundles=(0, 1),
    size_bytes=30,
    sha256=digest("payload"),
    signature=SIGNATURE,
)
_HARDWARE: Final = HardwareProfile(
    cores=4,
    ram_total_bytes=8 << 30,
    ram_limit_bytes=2 << 30,
    ram_limit_source=LimitSource.CGROUP,
    disk_free_bytes=1 << 40,
    aes_instructions=True,
    cpu_capability="AVX2",
    agent_version="0.1.0",
)
_JOB_PROFILE: Final = JobProfile(
    plan_digest=digest("plan"),
    ram_loaded_bytes=1 << 29,
    ram_floor_bytes=1 << 28,
    ram_per_matrix_bytes=1 << 20,
    step_floor_s=0.25,
    step_per_matrix_s=0.01,
    ram_reached_bytes=(1 << 28, 1 << 29),
    step_reached_s=(0.25, 0.5),
)
_HEARTBEAT: Final = Heartbeat(
    process_id=bytes(range(16)), activity=AgentActivity.TRAINING, round_number=3, done=2, total=40, rss_bytes=1 << 29
)

AGENT_MESSAGES: Final = Target(
    name="agent-messages",
    formats=(
        sent("submission", secagg_pb2.SecureAggregationMessage, submission_from_wire, submission_to_wire, _SUBMISSIONS),
        sent(
            "upload header",
            secagg_pb2.MaskedVectorHeader,
            header_from_wire,
            lambda pair: header_to_wire(*pair),
            [(ROUND, _HEADER)],
        ),
        sent("hardware", hardware_pb2.HardwareProfile, hardware_from_wire, hardware_to_wire, [_HARDWARE]),
        sent("job profile", hardware_pb2.JobProfile, job_profile_from_wire, job_profile_to_wire, [_JOB_PROFILE]),
        sent("heartbeat", site_service_pb2.HeartbeatRequest, heartbeat_from_wire, heartbeat_to_wire, [_HEARTBEAT]),
        sent(
            "watch request",
            site_service_pb2.WatchRequest,
            watch_request_from_wire,
            lambda pair: site_service_pb2.WatchRequest(process_id=pair[0], after_sequence=pair[1]),
            [(_HEARTBEAT.process_id, 7)],
        ),
        sent("model file", common_pb2.FileRef, file_from_wire, file_to_wire, PLAN.model_files),
    ),
    refusals=MALFORMED,
)
