"""A whole job on the tiny text model: folder, plan with true basis digests, and data that a straight line separates."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from job_plans import plan_of
from tiny_text_model import HIDDEN, write_tiny_model

from ravan.adapters.basis import basis_digest, draw_basis
from ravan.adapters.state import block_shapes, initial_state, state_digest
from ravan.codec.documents import model_digest
from ravan.ids import Digest, SiteId
from ravan.manifest.assignment import Assignment, BlockSpec, Member, Suite, Tile
from ravan.manifest.plan import JobPlan, Matrix, ModelFile

LABELS = ("pump", "engine", "cab")
ROWS = (("hose burst", "pump"), ("pump leak", "pump"), ("engine not start", "engine"), ("the cab door", "cab")) * 4
PLAN_DIGEST = Digest(hashlib.sha256(b"plan").digest())


@dataclass(frozen=True)
class TinyJob:
    folder: Path
    plan: JobPlan


def tiny_job(root: Path, *, heads: int = 2, rank: int = 3, **training: Any) -> TinyJob:
    folder = write_tiny_model(root / "model")
    plan = plan_of(0, heads=heads, rank=rank, dense=(("classifier.weight", (3, HIDDEN)), ("classifier.bias", (3,))))
    names = [f"bert.encoder.layer.{layer}.attention.self.{part}" for layer in (0, 1) for part in ("query", "value")]
    matrices = tuple(
        Matrix(
            ordinal=i,
            name=name,
            out_features=HIDDEN,
            in_features=HIDDEN,
            basis_digest=basis_digest(draw_basis(plan.adapter, i, HIDDEN, HIDDEN)),
        )
        for i, name in enumerate(names if heads else ())
    )
    changes: dict[str, Any] = {
        "steps": 30,
        "learning_rate": 0.03,
        "dense_learning_rate": 0.03,
        "labels": LABELS,
    } | training
    settings = dataclasses.replace(plan.training, **changes)
    return TinyJob(
        folder,
        dataclasses.replace(plan, matrices=matrices, training=settings, model_files=files_of(folder)),
    )


def files_of(folder: Path) -> tuple[ModelFile, ...]:
    return tuple(
        ModelFile(
            path=path.name,
            sha256=Digest(hashlib.sha256(path.read_bytes()).digest()),
            size_bytes=path.stat().st_size,
        )
        for path in sorted(folder.iterdir())
    )


def write_rows(path: Path, rows: tuple[tuple[str, str], ...] = ROWS, *, label: str = "label") -> Path:
    path.write_text(f"text,{label}\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return path


def identity_key(index: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"identity %d" % index).digest())


def tiny_assignment(
    plan: JobPlan,
    tiles_of: tuple[tuple[int, ...], ...],
    *,
    scored_of: tuple[tuple[int, ...], ...] = (),
    round_number: int = 1,
    clip: float = 4.0,
) -> Assignment:
    """Tile 0 is the uppermost matrix; one member per entry of `tiles_of`, called site-0 and so on."""
    shapes = block_shapes(plan)
    ordinals = [matrix.ordinal for matrix in reversed(plan.matrices)]
    return Assignment(
        run_id=plan.run_id,
        job_id=plan.job_id,
        round_number=round_number,
        plan_digest=PLAN_DIGEST,
        state_digest=state_digest(plan, initial_state(plan)),
        model_digest=model_digest(plan.model_files),
        suite=Suite.AES_128_CTR,
        ring_bits=24,
        bundle_threshold=3,
        blocks=tuple(
            BlockSpec(block_id=block, length=int(np.prod(shape)), clip=clip) for block, shape in shapes.items()
        ),
        tiles=tuple(
            Tile(tile_id=i, blocks=tuple(b for b in plan.head_ids() if b.matrix == ordinal))
            for i, ordinal in enumerate(ordinals)
        ),
        members=tuple(
            Member(
                index=i,
                site=SiteId(f"site-{i}"),
                identity_key=identity_key(i).public_key().public_bytes_raw(),
                tiles=tiles,
                scored_tiles=scored_of[i] if scored_of else (),
            )
            for i, tiles in enumerate(tiles_of)
        ),
    )
