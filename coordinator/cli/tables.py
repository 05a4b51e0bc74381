"""Tables for people: fleet, models, jobs, rounds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from coordinator.cli.durations import describe_moment, describe_seconds
from ravan.codec import enums
from ravan.manifest.phases import AgentActivity, JobState
from ravan.wire.v1 import operator_service_pb2 as wire

if TYPE_CHECKING:
    from coordinator.enrolment.operator_book import OperatorRecord

MIB = 1 << 20


def show_sites(sites: Sequence[tuple[wire.Site, str]], *, now: float) -> None:
    """Print the fleet, each site with why it is idle if it is."""
    if not sites:
        print("No site yet. Invite one: ravan-coordinator token create --site NAME")
        return
    rows = [
        (
            site.name,
            site_state(site),
            _ago(site.last_seen, now),
            site.hardware.agent_version,
            _memory(site),
            describe_activity(site, idle=False),
            why,
        )
        for site, why in sites
    ]
    Console().print(text_table(("Site", "State", "Last seen", "Agent", "Memory limit", "Doing", "Idle because"), rows))


def show_site_details(site: wire.Site, *, now: float) -> None:
    """Print one site."""
    rows = [("State", site_state(site)), ("Last seen", _ago(site.last_seen, now)), ("Doing", describe_activity(site))]
    if site.certificate_expires_at:
        rows.append(("Endorsed by the owner", "yes" if site.endorsed else "no"))
        rows.append(("Certificate ends in", describe_seconds(site.certificate_expires_at - now)))
    if site.HasField("hardware"):
        machine = site.hardware
        source = enums.LIMIT_SOURCE.from_wire(machine.ram_limit_source)
        rows += [
            ("Cores", str(machine.cores)),
            ("Memory", f"{machine.ram_total_bytes // MIB:,} MiB"),
            ("Memory limit", f"{machine.ram_limit_bytes // MIB:,} MiB ({source})"),
            ("Free disk", f"{machine.disk_free_bytes // MIB:,} MiB"),
            ("AES instructions", "yes" if machine.aes_instructions else "no"),
            ("Instruction set", machine.cpu_capability),
            ("Agent", machine.agent_version),
        ]
    Console().print(text_table((site.name, ""), rows))


def show_operators(records: Sequence[OperatorRecord], *, now: float) -> None:
    """Print the certificates of operators."""
    if not records:
        print(
            "Only the administrator of `init`. Another: ravan-coordinator operator create NAME --role viewer --out DIR"
        )
        return
    rows = [(each.name, each.rank.value, _standing(each, now), each.serial[:16]) for each in records]
    Console().print(text_table(("Operator", "Role", "Certificate", "Serial"), rows))


def show_models(models: Sequence[wire.Model]) -> None:
    """Print the base models."""
    if not models:
        print("No model yet. Take one in: ravan-coordinator model add DIR --name NAME")
        return
    rows = [
        (model.name, model.model_type, f"{model.parameters:,}", str(len(model.files)), model.digest.hex()[:16])
        for model in models
    ]
    Console().print(text_table(("Model", "Type", "Parameters", "Files", "Digest"), rows))


def show_jobs(jobs: Sequence[wire.Job]) -> None:
    """Print all jobs."""
    if not jobs:
        print("No job yet. Begin with: ravan-coordinator job sample > job.toml")
        return
    rows = [
        (job.job_id, job.name, shown_state(job), describe_lead(job), _share(job, "accuracy"), job.message)
        for job in jobs
    ]
    Console().print(text_table(("Id", "Name", "State", "Led by", "Accuracy", ""), rows))


def show_job(job: wire.Job) -> None:
    """Print one job with its rounds."""
    Console().print(render_job(job))


def render_job(job: wire.Job) -> RenderableType:
    """Return a job with all of its rounds, for a terminal."""
    lines = [Text(f"{job.name} ({job.job_id}): {shown_state(job)}", style="bold")]
    if job.message:
        lines.append(Text(job.message))
    if job.HasField("accuracy"):
        lines.append(Text(f"Accuracy {job.accuracy:.1%}, before training {_share(job, 'accuracy_before')}."))
    return Group(*lines, *describe_course(job), *([rounds_table(job.rounds)] if job.rounds else ()))


def describe_course(job: wire.Job) -> list[Text]:
    """Return lines on who leads a job, and what it waits for."""
    lines = [f"Round {len(job.rounds)} of {job.rounds_planned}, model {job.model}."]
    if job.HasField("lead"):
        lines.append(f"Led by {describe_lead(job)}.")
    lines += [describe_wait(each, led=job.lead.live) for each in job.rounds if each.phase_began_at]
    lines += [describe_task(task) for task in job.tasks]
    return [Text(line) for line in lines]


def rounds_table(rounds: Iterable[wire.Round]) -> Table:
    """Return rounds with how each went, or what it waits for."""
    heads = ("Round", "Phase", "Sites", "Accuracy", "Loss", "Seconds", "Dropped", "Waits for")
    return text_table(heads, [_round_row(each) for each in rounds])


def job_state(job: wire.Job) -> str:
    """Return a job's state as a word."""
    return enums.JOB_STATE.from_wire(job.state).value


def shown_state(job: wire.Job) -> str:
    """Return a job's state as it is now: what nobody leads does not run."""
    state = job_state(job)
    return f"{state}, but nobody leads it" if job.HasField("lead") and not job.lead.live else state


def describe_lead(job: wire.Job) -> str:
    """Return which process runs a job since when, or since when none does; nothing for a job that has ended."""
    if not job.HasField("lead"):
        return ""
    lead = job.lead
    if lead.live:
        return f"{lead.holder} at {lead.address} since {describe_moment(lead.since)}"
    return f"nobody since {describe_moment(lead.since)}" if lead.since else "nobody yet"


def describe_wait(each: wire.Round, *, led: bool) -> str:
    """Return what a round that has not ended waits for, since when, and until when."""
    stage = f"Round {each.number} is {round_stage(each)} since {describe_moment(each.phase_began_at)}"
    if not led:
        return f"{stage} and stands still until a coordinator leads again."
    awaited = ", ".join(each.awaited) or "the coordinator's own work"
    until = f", until {describe_moment(each.deadline_at)} at the latest" if each.deadline_at else ""
    return f"{stage}: waits for {awaited}{until}."


def describe_task(task: wire.Work) -> str:
    """Return what heavy work is at whom since when, or waits."""
    name = wire.WorkKind.Name(task.kind) if task.kind in wire.WorkKind.values() else str(task.kind)
    what, since = name.removeprefix("WORK_KIND_").lower(), describe_moment(task.since)
    if not task.holder:
        return f"Task {what} waits for a worker since {since}, after {task.attempts} attempts."
    return f"Task {what} is at {task.holder} since {since}, attempt {task.attempts}."


def has_ended(job: wire.Job) -> bool:
    """Tell whether the job is over."""
    return job_state(job) in {JobState.COMPLETED, JobState.STOPPED, JobState.FAILED}


def site_state(site: wire.Site) -> str:
    """Return a site's state as a word."""
    return enums.SITE_STATE.from_wire(site.state).value


def round_stage(each: wire.Round) -> str:
    """Return how a round ended, or its phase while it runs."""
    outcome = enums.ROUND_OUTCOME.from_wire_or_none(each.outcome)
    return (outcome or enums.ROUND_PHASE.from_wire(each.phase)).value.replace("_", " ")


def describe_drop(drop: wire.Drop) -> str:
    """Return which site left when and why."""
    phase, reason = enums.ROUND_PHASE.from_wire(drop.phase), enums.DROP_REASON.from_wire(drop.reason)
    return f"{drop.site} in {phase.value} ({reason.value})"


def describe_activity(site: wire.Site, *, idle: bool = True) -> str:
    """Return what a site is doing and how far it is, or with `idle` that it rests or is held back."""
    why = (site.held_back or site.resting) if idle else ""
    if not site.HasField("heartbeat"):
        return why
    beat = site.heartbeat
    activity = enums.AGENT_ACTIVITY.from_wire(beat.activity).value
    if why and activity == AgentActivity.IDLE:
        return why
    if not beat.total:
        return activity
    if beat.total > MIB:  # bytes; steps never come to a million
        return f"{activity} {beat.done / beat.total:.0%}"
    return f"{activity} {beat.done}/{beat.total}"


def _round_row(each: wire.Round) -> tuple[str, ...]:
    return (
        str(each.number),
        round_stage(each),
        f"{len(each.completed)}/{len(each.selected)}",
        _share(each, "accuracy"),
        f"{each.loss:.3f}" if each.HasField("loss") else "",
        f"{sum(spent.seconds for spent in each.phase_times):.0f}",
        ", ".join(describe_drop(drop) for drop in each.dropped),
        _describe_wait(each),
    )


def _describe_wait(each: wire.Round) -> str:
    if not each.deadline_at or each.outcome:
        return ", ".join(each.awaited)
    until = f"until {time.strftime('%H:%M:%S', time.localtime(each.deadline_at))}"
    return f"{', '.join(each.awaited)} {until}".strip()


def _share(message: wire.Job | wire.Round, field: str) -> str:
    return f"{getattr(message, field):.1%}" if message.HasField(field) else ""  # type: ignore[arg-type]


def _standing(record: OperatorRecord, now: float) -> str:
    if record.revoked_at is not None:
        return f"revoked {_ago(record.revoked_at, now)}"
    left = record.expires_at - now
    return f"ends in {describe_seconds(left)}" if left > 0 else "expired"


def _ago(moment: float, now: float) -> str:
    return f"{describe_seconds(max(0.0, now - moment))} ago" if moment else "never"


def _memory(site: wire.Site) -> str:
    return f"{site.hardware.ram_limit_bytes // MIB:,} MiB" if site.HasField("hardware") else ""


def text_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table whose cells are plain text: names must not act as markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
