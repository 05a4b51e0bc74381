"""Signed plans and versions of the small plan, as a session hears of them."""

from __future__ import annotations

import dataclasses
import hashlib

from job_plans import plan_of
from tiny_jobs import identity_key

from edge_agent.serving.kept import KeptPlan
from ravan.adapters.state import encode_state, initial_state
from ravan.codec.documents import encode_plan, sign_document
from ravan.identity.keys import raw_public
from ravan.ids import Digest, JobId, RunId
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.plan import JobPlan
from ravan.secagg.transcript import document_digest

KEY = identity_key(77)
MANIFEST_KEY = raw_public(KEY)


def plan_named(name: str, number: int = 0) -> JobPlan:
    return dataclasses.replace(
        plan_of(1, heads=1),
        job_id=JobId(f"{name}-{number:08x}"),
        job_name=name,
        run_id=RunId(hashlib.sha256(f"{name} {number}".encode()).digest()[:16]),
    )


def signed(plan: JobPlan) -> SignedDocument:
    return sign_document(DocumentKind.PLAN, encode_plan(plan), KEY)


def kept_plan(plan: JobPlan) -> KeptPlan:
    return KeptPlan(document=signed(plan), manifest_key=MANIFEST_KEY)


def digest_of_plan(plan: JobPlan) -> Digest:
    return document_digest(DocumentKind.PLAN, encode_plan(plan))


def version(plan: JobPlan, number: int) -> bytes:
    """Return the bytes of a state that differs from those of other numbers."""
    return encode_state(plan, {block: array + number for block, array in initial_state(plan).items()})


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).digest())
