"""Sound values that seeds are made of: one small job, one round of it, and what its members send."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import Assignment, BlockSpec, Member, Suite, Tile, Weighting
from ravan.manifest.instructions import RoundRef
from ravan.manifest.plan import (
    AdapterSettings,
    BasisKind,
    Denominator,
    DenseParameter,
    JobPlan,
    Matrix,
    ModelFile,
    Optimiser,
    Task,
    TrainingSettings,
)
from ravan.manifest.roster import Bundle, Roster, RosterEntry

RUN: Final = RunId(bytes(range(16)))
JOB: Final = JobId("orders-0a1b2c3d")
SIGNATURE: Final = bytes(range(64))
SHARE: Final = bytes(range(33))
MANIFEST_KEY: Final = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))

DENSE: Final = BlockId(BlockKind.DENSE, 0, 0, 0)
HEADS: Final = (BlockId(BlockKind.HEAD, 0, 0, 0), BlockId(BlockKind.HEAD, 0, 1, 0))


def digest(name: str) -> Digest:
    """Return a digest that stands for something of this name."""
    return Digest(hashlib.sha256(name.encode()).digest())


ROUND: Final = RoundRef(
    run_id=RUN, round_number=3, assignment_digest=digest("assignment"), roster_digest=digest("roster")
)

PLAN: Final = JobPlan(
    run_id=RUN,
    job_id=JOB,
    job_name="orders",
    model_name="tiny",
    model_files=(ModelFile(path="config.json", sha256=digest("config"), size_bytes=2),),
    adapter=AdapterSettings(heads=1, rank=2, basis=BasisKind.GRAM_SCHMIDT, seed=bytes(range(32))),
    matrices=tuple(
        Matrix(ordinal=n, name=f"layer.{n}", out_features=4, in_features=6, basis_digest=digest(f"basis {n}"))
        for n in range(2)
    ),
    dense=(DenseParameter(ordinal=0, name="classifier.bias", shape=(3,)),),
    training=TrainingSettings(
        task=Task.SEQUENCE_CLASSIFICATION,
        data="orders",
        labels=("pump", "engine", "cab"),
        max_length=16,
        batch_size=4,
        steps=10,
        optimiser=Optimiser.ADAMW,
        learning_rate=0.001,
        dense_learning_rate=0.01,
        weight_decay=0.0,
        learning_rate_decay=0.9,
    ),
    denominator=Denominator.TRAINERS,
)

ALIGNED_PLAN: Final = replace(
    PLAN, adapter=replace(PLAN.adapter, basis=BasisKind.ALIGNED), directions=digest("directions")
)

CALIBRATED_PLAN: Final = replace(PLAN, training=replace(PLAN.training, label_frequencies=(0.5, 0.25, 0.25)))

ASSIGNMENT: Final = Assignment(
    run_id=RUN,
    job_id=JOB,
    round_number=3,
    plan_digest=digest("plan"),
    state_digest=digest("state"),
    model_digest=digest("model"),
    suite=Suite.AES_128_CTR,
    ring_bits=24,
    bundle_threshold=3,
    blocks=tuple(BlockSpec(block_id=block, length=4, clip=8.0) for block in (DENSE, *HEADS)),
    tiles=tuple(Tile(tile_id=n, blocks=(head,)) for n, head in enumerate(HEADS)),
    members=tuple(
        Member(
            index=n,
            site=SiteId(f"plant-{n}"),
            identity_key=digest(f"identity {n}"),
            tiles=(0, 1)[: n + 1],
            scored_tiles=(0, 1)[n > 1 :],
            endorsement=SIGNATURE if n else b"",
        )
        for n in range(3)
    ),
    rotate=True,
    weighting=Weighting(limit=255, unit=16, cell_minimum=3, cell_threshold=3),
)

ENTRIES: Final = tuple(
    RosterEntry(index=n, mask_key=digest(f"mask {n}"), channel_key=digest(f"channel {n}"), signature=SIGNATURE)
    for n in range(3)
)

ROSTER: Final = Roster(
    assignment_digest=digest("assignment"),
    entries=ENTRIES,
    threshold=3,
    bundles=(
        Bundle(bundle_id=0, blocks=(DENSE, HEADS[0]), scored=(HEADS[1],), members=(0, 1, 2), threshold=3, void=False),
        Bundle(bundle_id=1, blocks=(HEADS[1],), members=(1, 2), threshold=3, void=True),
    ),
)
