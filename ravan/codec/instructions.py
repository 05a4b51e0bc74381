"""Instructions on the Watch stream."""

from __future__ import annotations

from ravan.codec import enums, fields
from ravan.codec.profiles import process_id
from ravan.codec.references import document_from_wire, document_to_wire
from ravan.codec.secagg_messages import (
    delivery_from_wire,
    delivery_to_wire,
    reveal_request_from_wire,
    reveal_request_to_wire,
    survivors_from_wire,
    survivors_to_wire,
)
from ravan.ids import JobId
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
from ravan.wire.v1 import site_service_pb2

_SEQUENCES = (1 << 63) - 1
_LONGEST_SPREAD_MS = 3_600_000


def greeting_to_wire(value: Greeting) -> site_service_pb2.WatchResponse:
    """Convert a stream's first message."""
    greeting = site_service_pb2.Greeting(
        heartbeat_interval_s=value.heartbeat_interval_s,
        coordinator_time=value.coordinator_time,
        timeline=value.timeline,
        return_spread_ms=round(value.return_spread_s * 1000),
        hand_over=value.hand_over,
        minimum_agent_version=value.minimum_agent_version,
    )
    return site_service_pb2.WatchResponse(greeting=greeting)


def numbered_to_wire(value: Numbered) -> site_service_pb2.WatchResponse:
    """Convert an instruction with its sequence number."""
    wire = instruction_to_wire(value.instruction)
    wire.sequence = value.sequence
    return wire


def watch_request_from_wire(wire: site_service_pb2.WatchRequest) -> tuple[bytes, int]:
    """Read which process asks for the stream, and the last sequence number that it has handled.

    Raises ProtocolError (MALFORMED).
    """
    return process_id(wire.process_id), fields.ranged(wire.after_sequence, 0, _SEQUENCES, "sequence number")


def watch_from_wire(wire: site_service_pb2.WatchResponse) -> Greeting | Numbered:
    """Read one message of the stream; raise ProtocolError (MALFORMED)."""
    if wire.WhichOneof("instruction") == "greeting":
        return Greeting(
            heartbeat_interval_s=fields.ranged(wire.greeting.heartbeat_interval_s, 1, 86_400, "heartbeat interval"),
            coordinator_time=fields.number(wire.greeting.coordinator_time, "coordinator's time"),
            timeline=fields.timeline(wire.greeting.timeline),
            hand_over=wire.greeting.hand_over,
            minimum_agent_version=fields.text(wire.greeting.minimum_agent_version, "oldest version", empty=True),
            return_spread_s=_spread_s(wire.greeting.return_spread_ms),
        )
    sequence = fields.ranged(wire.sequence, 1, _SEQUENCES, "sequence number")
    return Numbered(sequence=sequence, instruction=instruction_from_wire(wire))


def _spread_s(milliseconds: int) -> float:
    return fields.ranged(milliseconds, 0, _LONGEST_SPREAD_MS, "return spread") / 1000


def encode_instruction(value: Instruction) -> bytes:
    """Serialise an instruction for the database."""
    return instruction_to_wire(value).SerializeToString(deterministic=True)


def decode_instruction(raw: bytes) -> Instruction:
    """Parse an instruction from the database; raise ProtocolError (MALFORMED)."""
    return instruction_from_wire(fields.parse(site_service_pb2.WatchResponse, raw, "instruction"))


def instruction_to_wire(value: Instruction) -> site_service_pb2.WatchResponse:  # noqa: PLR0911 - one line a kind
    """Convert an instruction, without a sequence number."""
    response = site_service_pb2.WatchResponse
    match value:
        case Prepare():
            return response(prepare=site_service_pb2.Prepare(plan=document_to_wire(value.plan)))
        case Train():
            return response(assignment=document_to_wire(value.assignment))
        case ExchangeShares():
            return response(roster=document_to_wire(value.roster))
        case MaskAndUpload():
            return response(delivery=delivery_to_wire(value.round, value.delivery))
        case ConfirmSurvivors():
            return response(survivor_set=survivors_to_wire(value.round, value.survivors))
        case Reveal():
            return response(reveal_request=reveal_request_to_wire(value.round, value.request))
        case RoundResult():
            return response(round_result=_result_to_wire(value))
        case JobEnded():
            return response(job_ended=_end_to_wire(value))


def instruction_from_wire(wire: site_service_pb2.WatchResponse) -> Instruction:  # noqa: PLR0911 - one line a kind
    """Read an instruction; raise ProtocolError (MALFORMED)."""
    match wire.WhichOneof("instruction"):
        case "prepare":
            return Prepare(plan=document_from_wire(wire.prepare.plan))
        case "assignment":
            return Train(assignment=document_from_wire(wire.assignment))
        case "roster":
            return ExchangeShares(roster=document_from_wire(wire.roster))
        case "delivery":
            round_ref, delivery = delivery_from_wire(wire.delivery)
            return MaskAndUpload(round=round_ref, delivery=delivery)
        case "survivor_set":
            round_ref, survivors = survivors_from_wire(wire.survivor_set)
            return ConfirmSurvivors(round=round_ref, survivors=survivors)
        case "reveal_request":
            round_ref, request = reveal_request_from_wire(wire.reveal_request)
            return Reveal(round=round_ref, request=request)
        case "round_result":
            return _result_from_wire(wire.round_result)
        case "job_ended":
            return _end_from_wire(wire.job_ended)
        case _:
            raise fields.malformed("The instruction is empty or of a kind that this program does not know.")


def _result_to_wire(value: RoundResult) -> site_service_pb2.RoundResult:
    return site_service_pb2.RoundResult(
        run_id=value.run_id,
        round=value.round_number,
        outcome=enums.ROUND_OUTCOME.to_wire(value.outcome),
        state_digest=value.state_digest,
        dropped=value.dropped,
        audit_sequence=value.audit_sequence,
        audit_head=value.audit_head,
    )


def _result_from_wire(wire: site_service_pb2.RoundResult) -> RoundResult:
    return RoundResult(
        run_id=fields.run_id(wire.run_id),
        round_number=fields.ranged(wire.round, 1, (1 << 63) - 1, "round number"),
        outcome=enums.ROUND_OUTCOME.from_wire(wire.outcome),
        state_digest=fields.optional_digest(wire.state_digest, "digest of the model version"),
        dropped=wire.dropped,
        audit_sequence=fields.ranged(wire.audit_sequence, 0, _SEQUENCES, "place in the audit log"),
        audit_head=fields.optional_digest(wire.audit_head, "head of the audit chain"),
    )


def _end_to_wire(value: JobEnded) -> site_service_pb2.JobEnded:
    return site_service_pb2.JobEnded(
        job_id=value.job_id,
        state=enums.JOB_STATE.to_wire(value.state),
        state_digest=value.state_digest,
        round=value.round_number,
    )


def _end_from_wire(wire: site_service_pb2.JobEnded) -> JobEnded:
    return JobEnded(
        job_id=JobId(fields.text(wire.job_id, "job id")),
        state=enums.JOB_STATE.from_wire(wire.state),
        state_digest=fields.optional_digest(wire.state_digest, "digest of the model version"),
        round_number=fields.ranged(wire.round, 0, (1 << 63) - 1, "round number"),
    )
