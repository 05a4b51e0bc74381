"""Whole rounds of three sites against the coordinator's machine: sums, files, and what is consumed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from secagg_driver import sole
from tiny_jobs import identity_key, tiny_assignment, tiny_job

from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.secure.notes import RoundNotes
from edge_agent.secure.round import MaskedUpdate, SecureRound
from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from ravan.adapters.state import block_shapes
from ravan.errors import ProtocolError, RavanError
from ravan.ids import BlockId, Digest, RunId
from ravan.manifest.assignment import Assignment
from ravan.manifest.instructions import RoundRef
from ravan.manifest.plan import JobPlan
from ravan.manifest.roster import Roster
from ravan.secagg.combine import decode_sums
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.messages import KeyAdvertisement, RevealRequest, SealedShares, ShareDelivery, SurvivorSet
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.unmask import Unmasked, UnmaskJob, unmask

TILES = ((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0,))
SCORED = ((0, 1), (0, 1), (0, 1), (0,))
ASSIGNMENT_DIGEST = Digest(hashlib.sha256(b"assignment").digest())
REFERENCE = RoundRef(
    run_id=RunId(b"r" * 16), round_number=1, assignment_digest=ASSIGNMENT_DIGEST, roster_digest=Digest(b"")
)
ROSTER_DIGEST = Digest(hashlib.sha256(b"roster").digest())


def update_of(plan: JobPlan, assignment: Assignment, index: int, scale: float = 0.3) -> TrainingOutcome:
    generator = np.random.default_rng(index)
    shapes = block_shapes(plan)
    deltas = {
        block: generator.normal(0, scale, shapes[block]).astype(np.float32) for block in assignment.blocks_of(index)
    }
    return TrainingOutcome(
        deltas=deltas,
        statistics=LocalStatistics(examples=100 + index, loss_sum=50.25 * (index + 1), correct=10 * index),
        held_examples=100,
        scores={head: (index + head.index) / 4 for head in assignment.scored_by(index)},
        cost=TrainingCost(extra_peak_bytes=0, step_cpu_s=0.0),
    )


class Plant:
    """Four sites and a coordinator; site 3 trains the uppermost matrix alone."""

    def __init__(self, root: Path, clip: float = 4.0) -> None:
        self.root = root
        self.plan = tiny_job(root).plan
        self.assignment = tiny_assignment(self.plan, TILES, scored_of=SCORED, clip=clip)
        self.coordinator = CoordinatorRound(assignment=self.assignment, assignment_digest=ASSIGNMENT_DIGEST)
        self.sites = {i: self.site(i) for i in range(4)}
        self.updates = {i: update_of(self.plan, self.assignment, i) for i in range(4)}
        self.masked: dict[int, MaskedUpdate] = {}
        self.advertised: dict[int, KeyAdvertisement] = {}
        self.shared: dict[int, SealedShares] = {}
        self.deliveries: Mapping[int, ShareDelivery] = {}

    def site(self, index: int, key: Ed25519PrivateKey | None = None, minimum: int = 3) -> SecureRound:
        keeper = QuantisedKeeper(self.root / "kept" / str(index))
        return self.join(index, key or identity_key(index), minimum, keeper)

    def join(
        self, index: int, key: Ed25519PrivateKey, minimum: int = 3, keeper: QuantisedKeeper | None = None
    ) -> SecureRound:
        notes = RoundNotes(self.root / f"rounds-{index}")
        return SecureRound(
            assignment=self.assignment,
            assignment_digest=ASSIGNMENT_DIGEST,
            index=index,
            identity_key=key,
            minimum_bundle_threshold=minimum,
            notes=notes,
            opening=notes.begin(REFERENCE, b"p" * 16),
            keeper=keeper,
        )

    def run_to_roster(self) -> Roster:
        for i, site in self.sites.items():
            self.advertised[i] = site.finish_training(self.updates[i])
            self.coordinator.advertised(i, self.advertised[i])
        roster = sole(self.coordinator.close_advertise())
        assert isinstance(roster, Roster)
        self.coordinator.rosters_published([ROSTER_DIGEST])
        return roster

    def run_to_upload(self, uploaders: tuple[int, ...] = (0, 1, 2, 3)) -> SurvivorSet:
        self.roster = self.run_to_roster()
        for i, site in self.sites.items():
            self.shared[i] = site.share(self.roster, ROSTER_DIGEST)
            self.coordinator.shares(i, self.shared[i])
        deliveries = self.coordinator.close_sharing()
        assert not isinstance(deliveries, Abort)
        self.deliveries = deliveries
        for i, delivery in deliveries.items():
            self.masked[i] = self.sites[i].mask(delivery)
            if i in uploaders:
                self.coordinator.uploaded(i, self.masked[i].header)
                self.sites[i].uploaded()
        survivors = sole(self.coordinator.close_upload())
        assert isinstance(survivors, SurvivorSet)
        return survivors

    def run_to_request(self, uploaders: tuple[int, ...] = (0, 1, 2, 3)) -> RevealRequest:
        survivors = self.run_to_upload(uploaders)
        for i in survivors.survivors:
            self.coordinator.survivor_signature(i, self.sites[i].confirm(survivors))
        request = sole(self.coordinator.close_confirmation())
        assert isinstance(request, RevealRequest)
        return request

    def run_to_sums(self, request: RevealRequest) -> Unmasked:
        for i in request.survivor_set.survivors:
            self.coordinator.revealed(i, self.sites[i].reveal(request))
        job = sole(self.coordinator.close_reveal())
        assert isinstance(job, UnmaskJob)
        return unmask(job, lambda i: io.BytesIO(self.masked[i].path.read_bytes()))

    def kept(self, index: int) -> dict[str, NDArray[Any]]:
        with np.load(self.root / "kept" / str(index) / f"{ASSIGNMENT_DIGEST.hex()}.npz") as archive:
            return {name: archive[name] for name in archive.files}


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


def plain_sum(plant: Plant, bundle_id: int, survivors: tuple[int, ...]) -> list[int]:
    rows = [plant.kept(i)[f"bundle.{bundle_id}"].tolist() for i in survivors if f"bundle.{bundle_id}" in plant.kept(i)]
    return [sum(column) % (1 << 24) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("uploaders", [(0, 1, 2, 3), (0, 1, 2)])
def test_payloads_unmask_to_the_sum_of_what_was_quantised(plant: Plant, uploaders: tuple[int, ...]) -> None:
    sums = plant.run_to_sums(plant.run_to_request(uploaders)).sums
    assert sums.keys() == {0, 1, 2}
    for bundle_id, total in sums.items():
        assert total.tolist() == plain_sum(plant, bundle_id, uploaders)


def test_means_are_those_of_the_deltas(plant: Plant) -> None:
    request = plant.run_to_request()
    result = decode_sums(plant.assignment, [plant.run_to_sums(request)], plant.plan.denominator)
    step = 4.0 / plant.assignment.quantum_limit
    shapes = block_shapes(plant.plan)
    assert set(result.blocks) == set(shapes)
    for block, found in result.blocks.items():
        trainers = [i for i in range(4) if block in plant.assignment.blocks_of(i)]
        expected = np.mean([plant.updates[i].deltas[block].astype(np.float64).ravel() for i in trainers], axis=0)
        assert np.abs(np.ravel(found.mean) - expected).max() <= step
    totals = result.statistics
    assert (totals.examples, totals.correct, totals.loss_sum) == (406, 60, 502.5)
    means = {(head.matrix, head.index): score.mean for head, score in result.scores.items()}
    # (0 + 1 + 2 + 3) / 4 of a quarter, and so on; each score is off by half of 1 / 65535 at the most.
    expected = {(3, 0): 0.375, (3, 1): 0.625, (2, 0): 0.25, (2, 1): 0.5}
    assert means == pytest.approx(expected, abs=0.5 / 65535)


def test_the_kept_updates_are_clipped(tmp_path: Path) -> None:
    plant = Plant(tmp_path, clip=0.5)
    plant.run_to_upload()
    kept = plant.kept(0)
    for block in plant.assignment.blocks_of(0):
        delta = plant.updates[0].deltas[block].astype(np.float64).ravel()
        norm = np.linalg.norm(delta)
        np.testing.assert_allclose(kept[f"update.{block.pack():016x}"], delta * min(1.0, 0.5 / float(norm)), rtol=1e-12)
    assert int(kept["round"]) == 1
    assert kept["run"].tobytes() == plant.plan.run_id


def test_the_payload_is_on_disk_for_its_owner_only(plant: Plant) -> None:
    plant.run_to_upload()
    for masked in plant.masked.values():
        payload = masked.path.read_bytes()
        assert (len(payload), hashlib.sha256(payload).digest()) == (masked.header.size_bytes, masked.header.sha256)
        assert stat.S_IMODE(masked.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(masked.path.parent.stat().st_mode) == 0o700


def test_the_payload_does_not_show_the_update(plant: Plant) -> None:
    plant.run_to_upload()
    vector = plant.kept(0)["bundle.0"]
    low = np.frombuffer(plant.masked[0].path.read_bytes(), "<u2", len(vector))
    # 65,536 values: masked words agree with the clear ones about never.
    assert (low == (vector & 0xFFFF)).mean() < 0.05


def test_without_the_flag_nothing_is_kept(tmp_path: Path) -> None:
    plant = Plant(tmp_path)
    plant.sites = {i: plant.join(i, identity_key(i)) for i in range(4)}
    plant.run_to_upload()
    assert not (tmp_path / "kept").exists()
    assert sorted(path.name for path in (tmp_path / "rounds-0").iterdir()) == [
        "mask_set",
        "payload",
        "roster",
        "round.json",
    ]


def test_an_update_is_masked_once(plant: Plant) -> None:
    roster = plant.run_to_roster()
    for i, site in plant.sites.items():
        plant.coordinator.shares(i, site.share(roster, ROSTER_DIGEST))
    deliveries = plant.coordinator.close_sharing()
    assert not isinstance(deliveries, Abort)
    plant.sites[0].mask(deliveries[0])
    with pytest.raises(RavanError):
        plant.sites[0].mask(deliveries[0])


def test_a_reveal_is_on_disk_before_it_is_told_and_stays_the_same(plant: Plant) -> None:
    request = plant.run_to_request()
    first = plant.sites[0].reveal(request)
    note = plant.root / "rounds-0" / "revealed"
    assert bytes.fromhex(note.read_text()) == first.survivor_digest
    assert plant.sites[0].reveal(request) == first


def test_closing_leaves_nothing(plant: Plant) -> None:
    request = plant.run_to_request()
    plant.sites[0].close()
    assert not (plant.root / "rounds-0").exists()
    with pytest.raises(RavanError):
        plant.sites[0].reveal(request)


def test_a_site_s_own_threshold_counts(plant: Plant) -> None:
    with pytest.raises(ProtocolError) as caught:
        plant.site(0, minimum=4)
    assert "4 or more" in str(caught.value)


def test_nan_never_leaves(plant: Plant) -> None:
    update = update_of(plant.plan, plant.assignment, 0)
    block: BlockId = next(iter(update.deltas))
    update.deltas[block][0] = np.nan
    plant.updates[0] = update
    with pytest.raises(RavanError, match="not sent"):
        plant.run_to_upload()
    assert not (plant.root / "rounds-0" / "payload").exists()


STAGES = ("keys", "shares", "payload", "signature", "reveal")


class Course:
    """What site 0 is told in a whole round, and what it answers."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.request = plant.run_to_request()
        self.delivery = plant.deliveries[0]
        site = plant.sites[0]
        self.payload = plant.masked[0].path.read_bytes()
        self.answers: dict[str, object] = {
            "keys": plant.advertised[0],
            "shares": plant.shared[0],
            "payload": plant.masked[0].header,
            "signature": site.confirm(self.request.survivor_set),
            "reveal": site.reveal(self.request),
        }

    def again(self, site: SecureRound, stages: tuple[str, ...]) -> dict[str, object]:
        """Have another process of the site go through the stages, without an update: it was masked."""
        steps: dict[str, Callable[[], object]] = {
            "keys": lambda: site.finish_training(None),
            "shares": lambda: site.share(self.plant.roster, ROSTER_DIGEST),
            "payload": lambda: self._mask(site),
            "signature": lambda: site.confirm(self.request.survivor_set),
            "reveal": lambda: site.reveal(self.request),
        }
        return {stage: steps[stage]() for stage in stages}

    def _mask(self, site: SecureRound) -> object:
        masked = site.mask(self.delivery)
        site.uploaded()
        return masked.header


def test_another_process_gives_the_same_bytes_at_every_stage(plant: Plant) -> None:
    course = Course(plant)
    for count in range(1, len(STAGES) + 1):
        again = course.again(plant.join(0, identity_key(0)), STAGES[:count])
        assert again == {stage: course.answers[stage] for stage in STAGES[:count]}
    assert plant.masked[0].path.read_bytes() == course.payload


def test_another_process_masks_what_was_trained_but_not_masked(plant: Plant) -> None:
    roster = plant.run_to_roster()
    for i, site in plant.sites.items():
        plant.coordinator.shares(i, site.share(roster, ROSTER_DIGEST))
    deliveries = plant.coordinator.close_sharing()
    assert not isinstance(deliveries, Abort)
    again = plant.site(0)
    assert again.finish_training(plant.updates[0]) == plant.advertised[0]
    again.share(roster, ROSTER_DIGEST)
    plant.sites[0] = again
    for i, delivery in deliveries.items():
        plant.masked[i] = plant.sites[i].mask(delivery)
        plant.coordinator.uploaded(i, plant.masked[i].header)
        plant.sites[i].uploaded()
    survivors = sole(plant.coordinator.close_upload())
    assert isinstance(survivors, SurvivorSet)
    for i in survivors.survivors:
        plant.coordinator.survivor_signature(i, plant.sites[i].confirm(survivors))
    request = sole(plant.coordinator.close_confirmation())
    assert isinstance(request, RevealRequest)
    sums = plant.run_to_sums(request).sums
    assert sums[0].tolist() == plain_sum(plant, 0, (0, 1, 2, 3))


def test_another_process_follows_no_other_roster_mask_set_or_survivors(plant: Plant) -> None:
    course = Course(plant)
    site = plant.join(0, identity_key(0))
    course.again(site, STAGES[:1])
    with pytest.raises(ProtocolError, match="another roster"):
        site.share(plant.roster, Digest(hashlib.sha256(b"another roster").digest()))

    site = plant.join(0, identity_key(0))
    course.again(site, STAGES[:2])
    fewer = dataclasses.replace(
        course.delivery,
        mask_set=(0, 1, 2),
        ciphertexts={i: each for i, each in course.delivery.ciphertexts.items() if i != 3},
    )
    with pytest.raises(ProtocolError, match="another mask set"):
        site.mask(fewer)

    site = plant.join(0, identity_key(0))
    course.again(site, STAGES[:3])
    with pytest.raises(ProtocolError, match="another survivor set"):
        site.confirm(dataclasses.replace(course.request.survivor_set, survivors=(0, 1, 2)))
    assert plant.masked[0].path.read_bytes() == course.payload
