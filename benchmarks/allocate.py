"""How long it takes to decide who trains which heads, for a fleet of unequal sites and each policy.

What is timed is what the coordinator does between two rounds: form tiles, price them for every site, settle coverage
and, in the weighted profile, classes, rank, and say what would let the heads be trained that nobody trains.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from statistics import median
from typing import Final

import click

from benchmarks.results import publish, say
from coordinator.allocation.policy import AllocationPolicy, SiteCapacity
from coordinator.jobs.jobfile import JobFile, Profile, read_job_file
from coordinator.rounds.candidates import Lineup
from coordinator.rounds.ports import Job
from coordinator.rounds.selection import Waiting, select
from ravan.ids import Digest, JobId, RunId, SiteId
from ravan.manifest.plan import AdapterSettings, BasisKind, JobPlan, Matrix
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource

BAR_S: Final = 2.0
HEADS_PER_MATRIX: Final = 4
MIB: Final = 1 << 20
_EMPTY: Final = Digest(bytes(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of job."""

    policy: AllocationPolicy
    profile: Profile

    def file(self) -> JobFile:
        """Return a job file that leaves all else at its default."""
        return read_job_file(
            f"""
            job = {{ name = "bench", rounds = 1 }}
            model = {{ name = "bench" }}
            training = {{ data = "bench", labels = ["good", "bad"] }}
            evaluation = {{ data = "bench.csv" }}
            allocation = {{ policy = "{self.policy}" }}
            secure_aggregation = {{ profile = "{self.profile}" }}
            """,
            source="benchmark",
        )


def job_of(file: JobFile, matrices: int) -> Job:
    """Return a job of so many matrices; only its shape matters."""
    plan = JobPlan(
        run_id=RunId(bytes(16)),
        job_id=JobId("bench"),
        job_name="bench",
        model_name="bench",
        model_files=(),
        adapter=AdapterSettings(heads=HEADS_PER_MATRIX, rank=8, basis=BasisKind.GRAM_SCHMIDT, seed=bytes(32)),
        matrices=tuple(
            Matrix(ordinal=i, name=f"layer.{i}", out_features=384, in_features=384, basis_digest=_EMPTY)
            for i in range(matrices)
        ),
        dense=(),
        training=file.training.settled(),
        denominator=file.round.denominator,
    )
    return Job(
        job_id=plan.job_id,
        file=file,
        plan=plan,
        plan_digest=_EMPTY,
        model_digest=_EMPTY,
        evaluation_digest=_EMPTY,
    )


def draw_fleet(sites: int, matrices: int, seed: int) -> dict[SiteId, SiteCapacity]:
    """Return unequal sites; a handful, too few for the threshold, can hold all matrices."""
    rng = random.Random(seed)  # noqa: S311 - reproducible figures, no secrets
    able = {*rng.sample(range(sites), min(sites, 5))}
    return {
        SiteId(f"site-{i:04}"): _site(matrices if i in able else rng.uniform(0, 0.9 * matrices), rng)
        for i in range(sites)
    }


def _site(matrices: float, rng: random.Random) -> SiteCapacity:
    """Return a site whose memory holds so many matrices."""
    further = rng.randrange(8, 20) * MIB
    loaded = rng.randrange(350, 450) * MIB
    limit = int((loaded + 50 * MIB + further * (matrices + 0.5)) * 1.05)
    hardware = HardwareProfile(
        cores=2,
        ram_total_bytes=2 * limit,
        ram_limit_bytes=limit,
        ram_limit_source=LimitSource.CONFIG,
        disk_free_bytes=1 << 36,
        aes_instructions=True,
        cpu_capability="AVX2",
        agent_version="0.1.0",
    )
    profile = JobProfile(
        plan_digest=_EMPTY,
        ram_loaded_bytes=loaded,
        ram_floor_bytes=50 * MIB,
        ram_per_matrix_bytes=further,
        step_floor_s=0.2,
        step_per_matrix_s=rng.uniform(0.01, 0.05),
    )
    return SiteCapacity(hardware=hardware, job=profile)


def measure(case: Case, fleet: Mapping[SiteId, SiteCapacity], matrices: int, repeats: int) -> dict[str, float | str]:
    """Return the median seconds of one selection, and what it came to."""
    job = job_of(case.file(), matrices)
    norms = {head: float(head.matrix * 7 % 11) for head in job.plan.head_ids()}
    lineup = Lineup(ready=tuple(fleet), preparing=(), busy=(), barred=())
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        selection = select(job, lineup, fleet, (), norms)
        seconds.append(time.perf_counter() - started)
    if isinstance(selection, Waiting):
        raise RuntimeError(selection.sentence)
    classes = len(set(selection.tiles_of.values()))
    say(f"  {case.policy}, {case.profile}: {1000 * median(seconds):.0f} ms, {classes} different allotments")
    return {"policy": case.policy, "profile": case.profile, "seconds": round(median(seconds), 4), "classes": classes}


@click.command()
@click.option("--sites", default=1000, show_default=True, help="Sites that are ready.")
@click.option("--heads", default=200, show_default=True, help="Heads of the job, four in each matrix.")
@click.option("--repeats", default=9, show_default=True, help="Selections of each case; medians are reported.")
def main(sites: int, heads: int, repeats: int) -> None:
    """Time the allocation of one round."""
    matrices = heads // HEADS_PER_MATRIX
    say(f"Allocating {heads} heads to {sites} sites, {repeats} times for each policy and profile ...")
    fleet = draw_fleet(sites, matrices, seed=1)
    cases = [
        measure(Case(policy=policy, profile=profile), fleet, matrices, repeats)
        for policy, profile in product(AllocationPolicy, Profile)
    ]
    slowest = max(float(case["seconds"]) for case in cases)
    figures = {"sites": sites, "heads": heads, "allocate_s": slowest, "bar": BAR_S, "cases": cases}
    publish("bench-allocate", figures)


if __name__ == "__main__":
    main()
