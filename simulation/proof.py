"""Prove from the committed versions alone that every update was counted exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from coordinator.enrolment.pki import load_pki
from coordinator.operator_client import OperatorClient
from ravan.adapters.state import FloatArray, ModelState, decode_state, initial_state, state_digest
from ravan.codec.documents import open_document
from ravan.codec.references import document_from_wire
from ravan.ids import BlockId, Digest
from ravan.manifest.documents import DocumentKind
from ravan.manifest.plan import JobPlan
from ravan.wire.v1.operator_service_pb2 import Job
from ravan.wire.v1.round_pb2 import RoundOutcome
from simulation.fleet import site_name
from simulation.update import times_counted

TOLERANCE: Final = 0.01
"""Of a count: stochastic rounding moves it by less than a thousandth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedRound:
    """What the version that a round made says of the updates in it."""

    number: int
    counted: frozenset[str]
    """Sites whose update is in every head exactly once."""
    faults: tuple[str, ...]
    """A sentence for each site that some head shows neither once nor never, or that differs between heads."""


async def count_updates(client: OperatorClient, job: Job, pki: Path, folder: Path) -> list[CountedRound]:
    """Fetch every version of a job into `folder` and compare each with the one before it."""
    plan, _ = open_document(DocumentKind.PLAN, document_from_wire(job.plan), load_pki(pki).manifest_public)
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    before: ModelState = initial_state(plan)
    version = state_digest(plan, before)
    counted = []
    for each in job.rounds:
        if each.outcome == RoundOutcome.ROUND_OUTCOME_COMMITTED:
            after = await _fetch(client, plan, Digest(each.state_digest), folder)
            cohorts = {BlockId.unpack(head.block_id): head.survivors for head in each.cohorts}
            counted.append(read_counts(int(each.number), times_counted(before, after, version, cohorts)))
            before, version = after, Digest(each.state_digest)
    return counted


def read_counts(number: int, times: Mapping[BlockId, FloatArray]) -> CountedRound:
    """Judge what `times_counted` found in the version of a round."""
    table = np.stack(list(times.values()))  # (heads, slots)
    whole = np.rint(table)
    clear = (np.abs(table - whole) < TOLERANCE) & (whole >= 0) & (whole <= 1)
    agreed = clear.all(axis=0) & (whole == whole[0]).all(axis=0)
    return CountedRound(
        number=number,
        counted=frozenset(site_name(int(slot)) for slot in np.flatnonzero(agreed & (whole[0] == 1))),
        faults=tuple(
            f"Round {number}: {site_name(int(slot))} was counted {table[:, slot].min():.3f} to "
            f"{table[:, slot].max():.3f} times."
            for slot in np.flatnonzero(~agreed)
        ),
    )


async def _fetch(client: OperatorClient, plan: JobPlan, digest: Digest, folder: Path) -> ModelState:
    path = folder / digest.hex()
    await client.download_blob(digest, path)
    return decode_state(plan, path.read_bytes())
