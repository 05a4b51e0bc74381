"""A job's plan and version as they are kept on this PC, and their files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravan.codec.documents import open_document
from ravan.errors import ErrorReason, ModelError, ProtocolError
from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.ids import Digest
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.plan import JobPlan

Mark = tuple[tuple[str, int], ...]
"""Files and when they were written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPlan:
    """A job's plan under the coordinator's signature."""

    document: SignedDocument
    manifest_key: bytes
    """What the signature is verified with, 32 bytes."""

    def open(self) -> tuple[JobPlan, Digest]:
        """Return the plan with its digest; raise ProtocolError."""
        return open_document(DocumentKind.PLAN, self.document, self.manifest_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptModel:
    """A job's version on this PC."""

    plan: JobPlan
    plan_digest: Digest
    state_digest: Digest
    round_number: int
    """Round that made it."""
    kept_at: float
    """Seconds since the epoch."""
    path: Path
    """Where `ravan.adapters.state.encode_state`'s bytes lie."""

    @property
    def whole(self) -> bool:
        """Tell whether the version's bytes are there, undamaged. Blocks on disk."""
        try:
            return hashlib.sha256(self.path.read_bytes()).digest() == self.state_digest
        except OSError:
            return False

    def read_state(self) -> bytes:
        """Return the version's bytes; raise ModelError where they are gone or damaged. Blocks on disk."""
        data = self.path.read_bytes() if self.path.exists() else b""
        if hashlib.sha256(data).digest() != self.state_digest:
            raise ModelError(
                f"The model of the job '{self.plan.job_name}' in {self.path} is gone or damaged.",
                reason=ErrorReason.HASH_MISMATCH,
                next_step="Try again; if it recurs, the agent fetches the version anew once it runs.",
            )
        return data


def encode_plan_file(plan: KeptPlan) -> bytes:
    """Return the file of a plan."""
    return _encode(_plan_facts(plan))


def encode_model_file(plan: KeptPlan, state_digest: Digest, round_number: int, kept_at: float) -> bytes:
    """Return the file of a version."""
    facts = {"state_digest": state_digest.hex(), "round": round_number, "kept_at": kept_at}
    return _encode(_plan_facts(plan) | facts)


def read_plan_file(path: Path) -> KeptPlan | None:
    """Return a plan; None where there is none or its file is damaged: the coordinator sends it again."""
    try:
        plan = _plan_of(json.loads(path.read_bytes()))
        plan.open()
    except (OSError, ValueError, KeyError, TypeError, ProtocolError):
        return None
    return plan


def read_model_file(path: Path) -> KeptModel | None:
    """Return what is said of a version; None where there is none or its file is damaged."""
    try:
        content = json.loads(path.read_bytes())
        plan, plan_digest = _plan_of(content).open()
        return KeptModel(
            plan=plan,
            plan_digest=plan_digest,
            state_digest=Digest(bytes.fromhex(content["state_digest"])),
            round_number=int(content["round"]),
            kept_at=float(content["kept_at"]),
            path=state_path(path.parent, bytes.fromhex(content["state_digest"])),
        )
    except (OSError, ValueError, KeyError, TypeError, ProtocolError):
        return None


def mark_of(facts: Iterable[Path]) -> Mark:
    """Return what differs once one of these files was written or dropped; none is read."""
    return tuple((str(path), path.stat().st_mtime_ns) for path in sorted(facts) if path.exists())


def write_version(folder: Path, digest: Digest, state: bytes, facts: Path, content: bytes) -> None:
    """Put a version and then the file that names it into a folder, and drop the versions of before.

    Whoever reads at any moment finds a whole version or none. Blocks on disk; raises ResourceError (DISK_FULL).
    """
    make_private_folder(folder)
    kept = state_path(folder, digest)
    write_private(kept, state)
    write_private(facts, content)
    for each in folder.glob("*.safetensors"):
        if each != kept:
            each.unlink()


def state_path(folder: Path, digest: bytes) -> Path:
    """Return where a version lies beside the file that names it."""
    return folder / f"{digest.hex()}.safetensors"


def _plan_facts(plan: KeptPlan) -> dict[str, Any]:
    document = plan.document
    return {
        "plan": document.payload.hex(),
        "signature": document.signature.hex(),
        "manifest_key": plan.manifest_key.hex(),
    }


def _plan_of(content: Mapping[str, Any]) -> KeptPlan:
    payload, signature, key = (bytes.fromhex(content[name]) for name in ("plan", "signature", "manifest_key"))
    return KeptPlan(document=SignedDocument(payload=payload, signature=signature), manifest_key=key)


def _encode(facts: Mapping[str, Any]) -> bytes:
    return json.dumps(facts, indent=2).encode() + b"\n"
