"""Hypothesis strategies for sound plans, assignments, rosters, profiles and messages."""

from __future__ import annotations

from hypothesis import strategies as st

from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId, SiteId
from ravan.manifest.assignment import RING_WIDTHS, Assignment, BlockSpec, Member, Suite, Tile, Weighting
from ravan.manifest.documents import SignedDocument
from ravan.manifest.instructions import (
    ConfirmSurvivors,
    ExchangeShares,
    JobEnded,
    MaskAndUpload,
    Prepare,
    Reveal,
    RoundRef,
    RoundResult,
    Train,
)
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.phases import AgentActivity, JobState, RoundOutcome
from ravan.manifest.plan import (
    NO_DIGEST,
    TEXT_SLOT,
    AdapterSettings,
    BasisKind,
    Denominator,
    DenseParameter,
    JobPlan,
    LabelRule,
    Matrix,
    ModelFile,
    Optimiser,
    Precision,
    Task,
    TrainingSettings,
)
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource
from ravan.manifest.roster import Bundle, Roster, RosterEntry
from ravan.secagg.messages import (
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    SeedShare,
    SelfMaskShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)

digests = st.binary(min_size=32, max_size=32).map(Digest)
keys = st.binary(min_size=32, max_size=32)
signatures = st.binary(min_size=64, max_size=64)
run_ids = st.binary(min_size=16, max_size=16).map(RunId)
# surrogates cannot be encoded, control characters are refused
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
job_ids = texts.map(JobId)
rounds = st.integers(1, 1 << 40)
rates = st.floats(0, 10, allow_nan=False)
byte_counts = st.integers(0, 1 << 50)
members = st.integers(0, 127)
indices = st.integers(0, 65535)
sites = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).map(SiteId)
documents = st.builds(SignedDocument, payload=st.binary(max_size=50), signature=signatures)


def ascending(elements: st.SearchStrategy[int], min_size: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return st.sets(elements, min_size=min_size, max_size=8).map(lambda found: tuple(sorted(found)))


@st.composite
def prompts(draw: st.DrawFn) -> str:
    before, after = (draw(st.lists(texts, max_size=2).map("\n".join)) for _ in range(2))
    return before.replace(TEXT_SLOT, "") + TEXT_SLOT + after.replace(TEXT_SLOT, "")


@st.composite
def trainings(draw: st.DrawFn) -> TrainingSettings:
    """Draw settings that say what the task's examples look like; those of other tasks may be there as well."""
    task = draw(st.sampled_from(Task))
    sizes = st.integers(1, 5000)
    series, images = task is Task.SERIES_CLASSIFICATION, task is Task.IMAGE_CLASSIFICATION
    labels = tuple(draw(st.lists(texts, unique=True, max_size=4)))
    shares = st.floats(min_value=2**-20, max_value=1.0)
    return TrainingSettings(
        task=task,
        data=draw(texts),
        labels=labels,
        max_length=draw(sizes),
        batch_size=draw(sizes),
        steps=draw(sizes),
        optimiser=draw(st.sampled_from(Optimiser)),
        learning_rate=draw(rates),
        dense_learning_rate=draw(rates),
        weight_decay=draw(rates),
        learning_rate_decay=draw(st.floats(min_value=2**-10, max_value=1.0)),
        prompt=draw(prompts() if task is Task.CAUSAL_LM else st.just("") | prompts()),
        image_side=draw(st.integers(int(images), 1 << 14)),
        channels=tuple(draw(st.lists(texts, unique=True, min_size=int(series), max_size=4))),
        window_step=draw(st.integers(int(series), 5000)),
        label_rule=draw(st.sampled_from(LabelRule)),
        label_frequencies=draw(st.just(()) | st.tuples(*[shares] * len(labels))),
    )


@st.composite
def plans(draw: st.DrawFn) -> JobPlan:
    heads = draw(st.integers(0, 4))
    basis = draw(st.sampled_from(BasisKind))
    paths = sorted(draw(st.sets(st.from_regex(r"[a-z]{1,8}\.json", fullmatch=True), min_size=1, max_size=3)))
    matrix_names = draw(st.lists(texts, unique=True, min_size=1, max_size=4)) if heads else []
    dense_names = draw(st.lists(texts, unique=True, max_size=3))
    sizes = st.integers(1, 5000)
    return JobPlan(
        run_id=draw(run_ids),
        job_id=draw(job_ids),
        job_name=draw(texts),
        model_name=draw(texts),
        model_files=tuple(ModelFile(path=p, sha256=draw(digests), size_bytes=draw(byte_counts)) for p in paths),
        adapter=AdapterSettings(
            heads=heads,
            rank=draw(st.integers(1, 64)),
            basis=basis,
            seed=draw(keys),
            epoch=draw(indices),
            train_scales=draw(st.booleans()),
        ),
        matrices=tuple(
            Matrix(
                ordinal=ordinal,
                name=name,
                out_features=draw(sizes),
                in_features=draw(sizes),
                basis_digest=draw(digests),
                rank=draw(st.integers(0, 64)),
            )
            for ordinal, name in enumerate(matrix_names)
        ),
        dense=tuple(
            DenseParameter(ordinal=ordinal, name=name, shape=tuple(draw(st.lists(sizes, min_size=1, max_size=3))))
            for ordinal, name in enumerate(dense_names)
        ),
        training=draw(trainings()),
        denominator=draw(st.sampled_from(Denominator)),
        precision=draw(st.sampled_from(Precision)),
        directions=draw(digests) if heads and basis.is_led else NO_DIGEST,
    )


weightings = st.builds(
    Weighting,
    limit=st.integers(1, 1 << 20),
    unit=st.integers(1, 1 << 20),
    cell_minimum=st.integers(1, 128),
    cell_threshold=st.integers(1, 128),
)


@st.composite
def assignments(draw: st.DrawFn) -> Assignment:
    epoch = draw(indices)
    dense = [BlockId(BlockKind.DENSE, 0, i, 0) for i in range(draw(st.integers(1, 3)))]
    matrices = draw(st.integers(0, 5))
    heads = [BlockId(BlockKind.HEAD, epoch, m, i) for m in range(matrices) for i in range(2)]
    clips = st.floats(1e-9, 1e6)
    tile_ids = range(matrices)
    identities = draw(st.lists(keys, unique=True, min_size=1, max_size=6))
    names = draw(st.lists(sites, unique=True, min_size=len(identities), max_size=len(identities)))
    tile_choice = st.sets(st.sampled_from(tile_ids)) if matrices else st.just(set[int]())
    return Assignment(
        run_id=draw(run_ids),
        job_id=draw(job_ids),
        round_number=draw(rounds),
        plan_digest=draw(digests),
        state_digest=draw(digests),
        model_digest=draw(digests),
        suite=draw(st.sampled_from(Suite)),
        ring_bits=draw(st.sampled_from(RING_WIDTHS)),
        rotate=draw(st.booleans()),
        weighting=draw(st.none() | weightings),
        bundle_threshold=draw(st.integers(1, 128)),
        blocks=tuple(
            BlockSpec(block_id=b, length=draw(st.integers(1, 9999)), clip=draw(clips)) for b in [*dense, *heads]
        ),
        tiles=tuple(Tile(tile_id=t, blocks=tuple(b for b in heads if b.matrix == t)) for t in tile_ids),
        members=tuple(
            Member(
                index=i,
                site=name,
                identity_key=key,
                tiles=tuple(sorted(draw(tile_choice))),
                scored_tiles=tuple(sorted(draw(tile_choice))),
                endorsement=draw(st.just(b"") | signatures),
            )
            for i, (name, key) in enumerate(zip(names, identities, strict=True))
        ),
    )


entries = st.builds(RosterEntry, index=members, mask_key=keys, channel_key=keys, signature=signatures)


@st.composite
def rosters(draw: st.DrawFn) -> Roster:
    finishers = tuple(sorted(draw(st.lists(entries, unique_by=lambda e: e.index, min_size=1, max_size=6)), key=_index))
    cohort = st.sets(st.sampled_from([e.index for e in finishers]))
    bundles = tuple(
        Bundle(
            bundle_id=i,
            blocks=(BlockId(BlockKind.HEAD, 0, i, 0),),
            scored=tuple(BlockId(BlockKind.HEAD, 0, i, j) for j in range(draw(st.integers(0, 2)))),
            members=tuple(sorted(draw(cohort))),
            threshold=draw(st.integers(1, 128)),
            void=draw(st.booleans()),
        )
        for i in range(draw(st.integers(0, 4)))
    )
    threshold = draw(st.integers(1, len(finishers)))
    return Roster(assignment_digest=draw(digests), entries=finishers, threshold=threshold, bundles=bundles)


def _index(entry: RosterEntry) -> int:
    return entry.index


hardware = st.builds(
    HardwareProfile,
    cores=st.integers(1, 512),
    ram_total_bytes=st.integers(1, 1 << 50),
    ram_limit_bytes=st.integers(1, 1 << 50),
    ram_limit_source=st.sampled_from(LimitSource),
    disk_free_bytes=byte_counts,
    aes_instructions=st.booleans(),
    cpu_capability=st.one_of(texts, st.just("")),
    agent_version=st.one_of(texts, st.just("")),
)
job_profiles = st.builds(
    JobProfile,
    plan_digest=digests,
    ram_loaded_bytes=byte_counts,
    ram_floor_bytes=byte_counts,
    ram_per_matrix_bytes=byte_counts,
    step_floor_s=rates,
    step_per_matrix_s=rates,
    ram_reached_bytes=st.lists(byte_counts, max_size=5).map(tuple),
    step_reached_s=st.lists(rates, max_size=5).map(tuple),
)
heartbeats = st.builds(
    Heartbeat,
    process_id=st.binary(min_size=16, max_size=16),
    activity=st.sampled_from(AgentActivity),
    round_number=byte_counts,
    done=byte_counts,
    total=byte_counts,
    rss_bytes=byte_counts,
    peak_rss_bytes=byte_counts,
    extra_peak_bytes=byte_counts,
    step_cpu_s=rates,
    site_time=rates,
)

round_refs = st.builds(RoundRef, run_id=run_ids, round_number=rounds, assignment_digest=digests, roster_digest=digests)
ciphertexts = st.dictionaries(members, st.binary(min_size=1, max_size=40), max_size=4)
shares = st.binary(min_size=33, max_size=33)
survivor_sets = st.builds(SurvivorSet, survivors=ascending(members), bundles=ascending(indices))
survivor_signatures = st.builds(SurvivorSignature, index=members, signature=signatures)
reveal_requests = st.builds(
    RevealRequest,
    survivor_set=survivor_sets,
    signatures=st.lists(survivor_signatures, unique_by=lambda s: s.index, max_size=4).map(
        lambda found: tuple(sorted(found, key=lambda s: s.index))
    ),
)
reveals = st.builds(
    RevealedShares,
    survivor_digest=digests,
    shares=st.dictionaries(
        members,
        st.one_of(
            st.builds(SeedShare, share=shares),
            st.builds(SelfMaskShares, shares=st.dictionaries(indices, shares, max_size=3)),
        ),
        max_size=4,
    ),
)
sealed = st.builds(SealedShares, ciphertexts=ciphertexts)
deliveries = st.builds(ShareDelivery, mask_set=ascending(members), ciphertexts=ciphertexts)
headers = st.builds(
    MaskedHeader,
    index=members,
    mask_set_digest=digests,
    bundles=ascending(indices),
    size_bytes=byte_counts,
    sha256=digests,
    signature=signatures,
)
instructions = st.one_of(
    st.builds(Prepare, plan=documents),
    st.builds(Train, assignment=documents),
    st.builds(ExchangeShares, roster=documents),
    st.builds(MaskAndUpload, round=round_refs, delivery=deliveries),
    st.builds(ConfirmSurvivors, round=round_refs, survivors=survivor_sets),
    st.builds(Reveal, round=round_refs, request=reveal_requests),
    st.builds(
        RoundResult,
        run_id=run_ids,
        round_number=rounds,
        outcome=st.sampled_from(RoundOutcome),
        state_digest=st.one_of(digests, st.just(Digest(b""))),
        dropped=st.booleans(),
        audit_sequence=st.integers(0, (1 << 63) - 1),
        audit_head=st.one_of(digests, st.just(Digest(b""))),
    ),
    st.builds(
        JobEnded,
        job_id=job_ids,
        state=st.sampled_from(JobState),
        state_digest=st.one_of(digests, st.just(Digest(b""))),
        round_number=st.integers(0, (1 << 63) - 1),
    ),
)
