"""What came of the demo: `report.json` for programs, a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from deploy.demo.plant import SiteSettings
from deploy.demo.progress import phase_name
from deploy.demo.recomputation import Finding
from ravan.ids import BlockId
from ravan.wire.v1.operator_service_pb2 import Job, Round
from ravan.wire.v1.round_pb2 import DropReason, RoundOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything that the report is made of."""

    job: Job
    findings: Mapping[int, Finding]
    """Recomputation by round number."""
    sites: Sequence[SiteSettings]
    cages: Mapping[str, str]
    """Kind of memory limit by site."""
    seconds: float
    accuracy_heads_off: float | None
    metrics_url: str


def build_report(result: Result) -> dict[str, Any]:
    """Return the report; its keys are a contract."""
    return {
        "seconds": round(result.seconds, 1),
        "rounds": [_round(r, result.findings.get(r.number)) for r in result.job.rounds],
        "sites": [_site(settings, result) for settings in result.sites],
        "accuracy_before": result.job.accuracy_before,
        "accuracy_after": result.job.accuracy,
        "accuracy_heads_off": result.accuracy_heads_off,
        "metrics_url": result.metrics_url,
    }


def print_table(report: Mapping[str, Any], console: Console) -> None:
    """Print rounds, sites and the closing figures."""
    rounds = Table(title="Rounds")
    for column in ("round", "seconds", "sites", "missed", "withheld", "clipped", "accuracy", "exact"):
        rounds.add_column(column, justify="right")
    for r in report["rounds"]:
        rounds.add_row(
            str(r["number"]),
            f"{sum(r['phase_seconds'].values()):.1f}",
            str(len(r["completed"])),
            ", ".join(f"{d['site']} ({d['phase']})" for d in r["dropped"]) or "-",
            str(len(r["withheld"])),
            f"{r['clip_rate']:.1%}" if r["clip_rate"] is not None else "-",
            f"{r['accuracy']:.3f}" if r["accuracy"] is not None else "-",
            "yes" if r["exact"] else "NO",
        )
    console.print(rounds)
    sites = Table(title="Sites")
    for column in ("site", "RAM limit", "held by", "heads per round", "peak RSS", "extra peak", "CPU per step"):
        sites.add_column(column, justify="right")
    for s in report["sites"]:
        sites.add_row(
            s["name"],
            f"{s['ram_limit_mb']} MB",
            s["held_by"],
            " ".join("-" if h is None else str(h) for h in s["heads"]),
            f"{s['peak_rss_mb']:.0f} MB",
            f"{s['extra_peak_mb']:.0f} MB",
            f"{s['step_cpu_ms']:.0f} ms",
        )
    console.print(sites)
    off = report["accuracy_heads_off"]
    console.print(
        f"accuracy on the held-out texts: {report['accuracy_before']:.3f} before, {report['accuracy_after']:.3f} after"
        + (f", {off:.3f} with the heads frozen" if off is not None else "")
    )


def _round(r: Round, finding: Finding | None) -> dict[str, Any]:
    return {
        "number": r.number,
        "outcome": RoundOutcome.Name(r.outcome).removeprefix("ROUND_OUTCOME_").lower(),
        "phase_seconds": {phase_name(p.phase): round(p.seconds, 3) for p in r.phase_times},
        "selected": list(r.selected),
        "completed": list(r.completed),
        "dropped": [
            {
                "site": d.site,
                "phase": phase_name(d.phase),
                "reason": DropReason.Name(d.reason).removeprefix("DROP_REASON_").lower(),
            }
            for d in r.dropped
        ],
        "heads_cohort": {str(BlockId.unpack(c.block_id)): c.survivors for c in r.cohorts},
        "withheld": [str(BlockId.unpack(b)) for b in r.withheld],
        "upload_bytes_per_agent": {s.site: s.upload_bytes for s in r.sites},
        "accuracy": r.accuracy if r.HasField("accuracy") else None,
        "loss": r.loss if r.HasField("loss") else None,
        "clip_rate": r.clip_rate if r.HasField("clip_rate") else None,
        "exact": finding is not None and finding.exact,
        "mean_error": None if finding is None else finding.mean_error,
        "mean_error_bound": None if finding is None else finding.mean_error_bound,
    }


def _site(settings: SiteSettings, result: Result) -> dict[str, Any]:
    mine = [{s.site: s for s in r.sites}.get(settings.name) for r in result.job.rounds]
    seen = [s for s in mine if s is not None]
    return {
        "name": settings.name,
        "ram_limit_mb": settings.ram_limit_mb,
        "held_by": result.cages[settings.name],
        "heads": [None if s is None else s.heads for s in mine],
        "peak_rss_mb": round(max((s.peak_rss_bytes for s in seen), default=0) / 2**20, 1),
        # A process that was killed loads in its first round what it finds in memory in all later ones.
        "extra_peak_mb": round(_median([s.extra_peak_bytes for s in seen]) / 2**20, 1),
        "step_cpu_ms": round(1000 * _median([s.step_cpu_s for s in seen if s.step_cpu_s]), 1),
    }


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2] if ordered else 0.0
