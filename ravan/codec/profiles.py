"""Hardware profiles, job profiles and heartbeats."""

from __future__ import annotations

from ravan.codec import enums, fields
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.profile import HardwareProfile, JobProfile
from ravan.wire.v1 import hardware_pb2, site_service_pb2

_BYTES = (1 << 63) - 1
PROCESS_BYTES = 16


def hardware_to_wire(value: HardwareProfile) -> hardware_pb2.HardwareProfile:
    """Convert a hardware profile."""
    return hardware_pb2.HardwareProfile(
        cores=value.cores,
        ram_total_bytes=value.ram_total_bytes,
        ram_limit_bytes=value.ram_limit_bytes,
        ram_limit_source=enums.LIMIT_SOURCE.to_wire(value.ram_limit_source),
        disk_free_bytes=value.disk_free_bytes,
        aes_instructions=value.aes_instructions,
        cpu_capability=value.cpu_capability,
        agent_version=value.agent_version,
    )


def hardware_from_wire(wire: hardware_pb2.HardwareProfile) -> HardwareProfile:
    """Read a hardware profile; raise ProtocolError (MALFORMED)."""
    return HardwareProfile(
        cores=fields.ranged(wire.cores, 1, 1 << 16, "number of cores"),
        ram_total_bytes=fields.ranged(wire.ram_total_bytes, 1, _BYTES, "physical memory"),
        ram_limit_bytes=fields.ranged(wire.ram_limit_bytes, 1, _BYTES, "memory limit"),
        ram_limit_source=enums.LIMIT_SOURCE.from_wire(wire.ram_limit_source),
        disk_free_bytes=_bytes(wire.disk_free_bytes, "free disk space"),
        aes_instructions=wire.aes_instructions,
        cpu_capability=fields.text(wire.cpu_capability, "instruction set", empty=True),
        agent_version=fields.text(wire.agent_version, "agent's version", empty=True),
    )


def job_profile_to_wire(value: JobProfile) -> hardware_pb2.JobProfile:
    """Convert a job profile."""
    return hardware_pb2.JobProfile(
        plan_digest=value.plan_digest,
        ram_loaded_bytes=value.ram_loaded_bytes,
        ram_floor_bytes=value.ram_floor_bytes,
        ram_per_matrix_bytes=value.ram_per_matrix_bytes,
        step_floor_s=value.step_floor_s,
        step_per_matrix_s=value.step_per_matrix_s,
        ram_reached_bytes=value.ram_reached_bytes,
        step_reached_s=value.step_reached_s,
    )


def job_profile_from_wire(wire: hardware_pb2.JobProfile) -> JobProfile:
    """Read a job profile; raise ProtocolError (MALFORMED)."""
    return JobProfile(
        plan_digest=fields.digest(wire.plan_digest, "plan digest"),
        ram_loaded_bytes=_bytes(wire.ram_loaded_bytes, "memory of the loaded model"),
        ram_floor_bytes=_bytes(wire.ram_floor_bytes, "memory of the smallest step"),
        ram_per_matrix_bytes=_bytes(wire.ram_per_matrix_bytes, "memory of a matrix"),
        step_floor_s=fields.number(wire.step_floor_s, "time of the smallest step"),
        step_per_matrix_s=fields.number(wire.step_per_matrix_s, "time of a matrix"),
        ram_reached_bytes=tuple(_bytes(each, "memory of the top matrices") for each in wire.ram_reached_bytes),
        step_reached_s=tuple(fields.number(each, "time of the top matrices") for each in wire.step_reached_s),
    )


def heartbeat_to_wire(value: Heartbeat) -> site_service_pb2.HeartbeatRequest:
    """Convert a heartbeat."""
    return site_service_pb2.HeartbeatRequest(
        process_id=value.process_id,
        activity=enums.AGENT_ACTIVITY.to_wire(value.activity),
        round=value.round_number,
        done=value.done,
        total=value.total,
        rss_bytes=value.rss_bytes,
        peak_rss_bytes=value.peak_rss_bytes,
        extra_peak_bytes=value.extra_peak_bytes,
        step_cpu_s=value.step_cpu_s,
        site_time=value.site_time,
    )


def heartbeat_from_wire(wire: site_service_pb2.HeartbeatRequest) -> Heartbeat:
    """Read a heartbeat; raise ProtocolError (MALFORMED)."""
    return Heartbeat(
        process_id=process_id(wire.process_id),
        activity=enums.AGENT_ACTIVITY.from_wire(wire.activity),
        round_number=_bytes(wire.round, "round number"),
        done=_bytes(wire.done, "progress"),
        total=_bytes(wire.total, "extent of the work"),
        rss_bytes=_bytes(wire.rss_bytes, "resident memory"),
        peak_rss_bytes=_bytes(wire.peak_rss_bytes, "peak memory"),
        extra_peak_bytes=_bytes(wire.extra_peak_bytes, "peak memory of training"),
        step_cpu_s=fields.number(wire.step_cpu_s, "processor time of a step"),
        site_time=fields.number(wire.site_time, "time at the site"),
    )


def process_id(raw: bytes) -> bytes:
    """Return the 16 bytes that name an agent process; raise ProtocolError (MALFORMED)."""
    return fields.fixed(raw, PROCESS_BYTES, "process id")


def _bytes(value: int, what: str) -> int:
    return fields.ranged(value, 0, _BYTES, what)
