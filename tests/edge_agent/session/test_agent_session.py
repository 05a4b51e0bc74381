"""A real session against a played coordinator over mutual TLS: preparing, a whole round, and everything that fails."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import pytest
from scripted_headquarters import Arrived, Attached, Headquarters, Left, enrol_by_hand, headquarters
from secagg_driver import sole
from structlog.testing import capture_logs
from tiny_jobs import TinyJob, identity_key, tiny_assignment, tiny_job, write_rows

from edge_agent.app import build_session
from edge_agent.config import load_config
from edge_agent.hardware.limits import LimitReader, MemoryLimit
from edge_agent.identity.keystore import Identity, load_identity
from edge_agent.secure.round import SecureRound
from edge_agent.session import round_desk
from edge_agent.session.acquaintance_file import AcquaintanceFile
from edge_agent.session.connection import Coordinator
from edge_agent.training.outcome import TrainingCost, TrainingOutcome
from ravan.adapters.state import block_shapes, encode_state, initial_state
from ravan.codec.documents import encode_assignment, encode_plan, encode_roster, sign_document
from ravan.codec.secagg_messages import Submission
from ravan.errors import ErrorReason, StateError
from ravan.identity.keys import raw_public
from ravan.ids import BlockId, Digest, RunId, SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import DocumentKind, SignedDocument
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
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome
from ravan.manifest.plan import Denominator, JobPlan
from ravan.manifest.profile import HardwareProfile, JobProfile, LimitSource
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.combine import decode_sums
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.messages import RevealedShares, RevealRequest, SealedShares, SurvivorSet, SurvivorSignature
from ravan.secagg.statistics import LocalStatistics
from ravan.secagg.transcript import document_digest
from ravan.secagg.unmask import UnmaskJob, unmask

TILES = ((0, 1), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3))


@dataclass
class World:
    """Headquarters, one agent's folder, and a job for it."""

    root: Path
    hq: Headquarters
    job: TinyJob
    config_path: Path

    @property
    def plan(self) -> JobPlan:
        return self.job.plan

    @property
    def plan_digest(self) -> Digest:
        return document_digest(DocumentKind.PLAN, encode_plan(self.plan))

    @property
    def identity(self) -> Identity:
        return load_identity(self.config_path.parent / "identity")

    @property
    def kept(self) -> Path:
        return self.root / "kept"

    @asynccontextmanager
    async def agent(self, environment: dict[str, str] | None = None) -> AsyncIterator[asyncio.Event]:
        """Run a session; yields what stops it."""
        config = load_config(self.config_path, {"RAVAN_AGENT_THREADS": "1"} | (environment or {}))
        coordinator, stop = Coordinator(self.identity), asyncio.Event()
        running = asyncio.create_task(build_session(config, self.identity, coordinator, self.kept).run(stop))
        try:
            yield stop
        finally:
            stop.set()
            await running
            await coordinator.close()

    @overload
    def sign(self, kind: Literal[DocumentKind.PLAN], value: JobPlan) -> SignedDocument: ...
    @overload
    def sign(self, kind: Literal[DocumentKind.ASSIGNMENT], value: Assignment) -> SignedDocument: ...
    @overload
    def sign(self, kind: Literal[DocumentKind.ROSTER], value: Roster) -> SignedDocument: ...
    def sign(self, kind: DocumentKind, value: Any) -> SignedDocument:
        encoders: dict[DocumentKind, Any] = {
            DocumentKind.PLAN: encode_plan,
            DocumentKind.ASSIGNMENT: encode_assignment,
            DocumentKind.ROSTER: encode_roster,
        }
        return sign_document(kind, encoders[kind](value), self.hq.manifest_key)

    def prepare(self) -> None:
        for file in self.plan.model_files:
            self.hq.blobs.put((self.job.folder / file.path).read_bytes())
        self.hq.tell(Prepare(plan=self.sign(DocumentKind.PLAN, self.plan)))

    def assignment(self, number: int = 1, scored_of: tuple[tuple[int, ...], ...] = ()) -> Assignment:
        made = tiny_assignment(self.plan, TILES, scored_of=scored_of, round_number=number)
        own = dataclasses.replace(made.members[0], identity_key=raw_public(self.identity.identity_key))
        return dataclasses.replace(made, plan_digest=self.plan_digest, members=(own, *made.members[1:]))

    def train(self, number: int = 1, assignment: Assignment | None = None) -> tuple[Assignment, Digest]:
        assignment = assignment or self.assignment(number)
        self.hq.blobs.put(encode_state(self.plan, initial_state(self.plan)))
        self.hq.tell(Train(assignment=self.sign(DocumentKind.ASSIGNMENT, assignment)))
        return assignment, document_digest(DocumentKind.ASSIGNMENT, encode_assignment(assignment))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    rows = write_rows(tmp_path / "rows.csv")
    extra = f'\n[data.orders]\npath = "{rows}"\nformat = "csv"\ntext = "text"\nlabel = "label"\n'
    async with headquarters(tmp_path / "hq") as hq:
        config_path = enrol_by_hand(hq.pki, hq.port, tmp_path / "site", extra)
        yield World(tmp_path, hq, tiny_job(tmp_path, steps=4), config_path)


class Round:
    """Three stand-ins and the real agent, led by the coordinator's machine."""

    def __init__(self, world: World, assignment: Assignment, digest: Digest) -> None:
        self.world, self.assignment, self.digest = world, assignment, digest
        self.machine = CoordinatorRound(assignment=assignment, assignment_digest=digest)
        self.others = {i: self._stand_in(i) for i in (1, 2, 3)}
        self.payloads: dict[int, Path] = {}
        self.roster_digest = Digest(b"")

    def _stand_in(self, index: int) -> SecureRound:
        return SecureRound(
            assignment=self.assignment,
            assignment_digest=self.digest,
            index=index,
            identity_key=identity_key(index),
            minimum_bundle_threshold=3,
            folder=self.world.root / f"other-{index}",
        )

    def _zero_update(self, index: int) -> TrainingOutcome:
        shapes = block_shapes(self.world.plan)
        deltas = {block: np.zeros(shapes[block], np.float32) for block in self.assignment.blocks_of(index)}
        statistics = LocalStatistics(examples=0, loss_sum=0.0, correct=0)
        return TrainingOutcome(
            deltas=deltas,
            statistics=statistics,
            held_examples=0,
            scores=dict.fromkeys(self.assignment.scored_by(index), 0.0),
            cost=TrainingCost(extra_peak_bytes=0, step_cpu_s=0),
        )

    @property
    def reference(self) -> RoundRef:
        return RoundRef(
            run_id=self.assignment.run_id,
            round_number=self.assignment.round_number,
            assignment_digest=self.digest,
            roster_digest=self.roster_digest,
        )

    async def message(self, kind: type) -> Any:
        submission = await self.world.hq.hear(Submission)
        assert submission.index == 0
        assert submission.round == self.reference
        assert isinstance(submission.message, kind)
        return submission.message

    async def trained(self) -> None:
        """Wait until the agent has trained and sent its round keys."""
        await self.message(RosterEntry)

    async def advertise(self) -> None:
        self.machine.advertised(0, await self.message(RosterEntry))
        for i, other in self.others.items():
            self.machine.advertised(i, other.finish_training(self._zero_update(i)))

    async def share(self) -> None:
        roster = sole(self.machine.close_advertise())
        assert isinstance(roster, Roster)
        self.roster_digest = document_digest(DocumentKind.ROSTER, encode_roster(roster))
        self.machine.rosters_published([self.roster_digest])
        self.world.hq.tell(ExchangeShares(roster=self.world.sign(DocumentKind.ROSTER, roster)))
        self.machine.shares(0, await self.message(SealedShares))
        for i, other in self.others.items():
            self.machine.shares(i, other.share(roster, self.roster_digest))

    async def upload(self) -> None:
        deliveries = self.machine.close_sharing()
        assert not isinstance(deliveries, Abort)
        self.world.hq.tell(MaskAndUpload(round=self.reference, delivery=deliveries[0]))
        arrived = await self.world.hq.hear(Arrived)
        self.machine.uploaded(0, arrived.header)
        self.payloads[0] = arrived.path
        for i, other in self.others.items():
            masked = other.mask(deliveries[i])
            self.machine.uploaded(i, masked.header)
            self.payloads[i] = masked.path

    async def confirm(self) -> RevealRequest:
        survivors = sole(self.machine.close_upload())
        assert isinstance(survivors, SurvivorSet)
        self.world.hq.tell(ConfirmSurvivors(round=self.reference, survivors=survivors))
        self.machine.survivor_signature(0, await self.message(SurvivorSignature))
        for i, other in self.others.items():
            self.machine.survivor_signature(i, other.confirm(survivors))
        request = sole(self.machine.close_confirmation())
        assert isinstance(request, RevealRequest)
        return request

    async def reveal(self, request: RevealRequest) -> UnmaskJob:
        self.world.hq.tell(Reveal(round=self.reference, request=request))
        self.machine.revealed(0, await self.message(RevealedShares))
        for i, other in self.others.items():
            self.machine.revealed(i, other.reveal(request))
        job = sole(self.machine.close_reveal())
        assert isinstance(job, UnmaskJob)
        return job

    async def run(self) -> UnmaskJob:
        await self.advertise()
        await self.share()
        await self.upload()
        return await self.reveal(await self.confirm())

    def finish(self, *, dropped: bool = False, outcome: RoundOutcome = RoundOutcome.COMMITTED) -> None:
        committed = outcome is RoundOutcome.COMMITTED
        self.world.hq.tell(
            RoundResult(
                run_id=self.assignment.run_id,
                round_number=self.assignment.round_number,
                outcome=outcome,
                state_digest=Digest(hashlib.sha256(b"next").digest() if committed else b""),
                dropped=dropped,
            )
        )


async def test_two_whole_rounds(world: World) -> None:
    async with world.agent():
        attached = await world.hq.hear(Attached)
        assert attached.after_sequence == 0
        hardware = await world.hq.hear(HardwareProfile)
        assert hardware.ram_limit_bytes <= hardware.ram_total_bytes
        world.prepare()
        profile = await world.hq.hear(JobProfile)
        assert profile.plan_digest == world.plan_digest
        for number in (1, 2):
            current = Round(world, *world.train(number))
            job = await current.run()
            # The stand-ins sent zeros, so the sum is what this site quantised.
            sums = unmask(job, lambda i, paths=current.payloads: io.BytesIO(paths[i].read_bytes())).sums  # type: ignore[misc]
            with np.load(world.kept / f"{current.digest.hex()}.npz") as kept:
                own = kept["bundle.0"].astype(np.int64)
                heads = kept[f"update.{current.assignment.tiles[0].blocks[0].pack():016x}"]
                names = {name for name in kept.files if name.startswith("update.")}
            canaries = np.zeros(len(own), np.int64)
            canaries[own == 1] = 3  # the others' canaries stand where ours do; nothing else of theirs is not zero
            differing = np.flatnonzero((own + canaries - sums[0].astype(np.int64)) % (1 << 24))
            assert all(own[i] == 1 for i in differing)
            assert heads.any()
            assert names == {f"update.{block.pack():016x}" for block in current.assignment.blocks_of(0)}
            current.finish()
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
        training = [beat for beat in world.hq.heartbeats if beat.activity is AgentActivity.TRAINING]
        assert {beat.round_number for beat in training} <= {1, 2}
        assert world.hq.heartbeats[-1].step_cpu_s > 0
        assert world.hq.heartbeats[-1].peak_rss_bytes >= world.hq.heartbeats[-1].rss_bytes > 0
    assert list((world.config_path.parent / "state" / "rounds").iterdir()) == []


async def test_heads_are_scored_where_the_assignment_asks_for_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[frozenset[BlockId]] = []
    monkeypatch.setattr(round_desk, "check_memory", lambda *given: checked.append(given[2]))
    scored_of = ((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0,))
    assignment = world.assignment(scored_of=scored_of)
    own, *others = assignment.members
    assignment = dataclasses.replace(assignment, members=(dataclasses.replace(own, tiles=(0,)), *others))
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1, assignment))
        job = await current.run()
        sums = unmask(job, lambda i: io.BytesIO(current.payloads[i].read_bytes()))
        # The others sent zeros.
        scores = decode_sums(assignment, [sums], Denominator.TRAINERS).scores
        current.finish()
    assert scores.keys() == set(world.plan.head_ids())
    assert max(score.total for score in scores.values()) == 65535
    assert sum(score.total > 0 for score in scores.values()) > 4
    assert {block.matrix: scores[block].count for block in scores} == {0: 3, 1: 3, 2: 3, 3: 4}
    # Memory is what scoring takes as well: all four matrices, though the uppermost alone is trained.
    assert checked == [frozenset((*world.plan.dense_ids(), *world.plan.head_ids()))]


def offers(entries: list[Any]) -> int:
    return sum(entry["event"] == "offers the update of a round that ended before it was masked" for entry in entries)


async def end_before_masking(world: World, number: int, assignment: Assignment | None = None) -> Round:
    """Lead a round to the shares, and end it there for want of sites."""
    current = Round(world, *world.train(number, assignment))
    await current.advertise()
    await current.share()
    current.finish(outcome=RoundOutcome.TOO_FEW_SITES)
    return current


async def test_an_update_that_was_never_masked_is_offered_in_the_re_run(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        with capture_logs() as entries:
            await end_before_masking(world, 1)
            await end_before_masking(world, 2)
            third = Round(world, *world.train(3))
            await third.run()
        assert offers(entries) == 2
        assert not (world.kept / f"{Digest(bytes(32)).hex()}.npz").exists()
        third.finish(outcome=RoundOutcome.INTERRUPTED)
        # It was masked in round 3: consumed, though that round came to nothing as well.
        with capture_logs() as entries:
            await end_before_masking(world, 4)
        assert offers(entries) == 0


@pytest.mark.parametrize("change", ["version", "blocks", "scored heads", "data"])
async def test_an_update_is_not_offered_where_another_would_be_trained(world: World, change: str) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        await end_before_masking(world, 1)
        assignment = world.assignment(2)
        match change:
            case "version":
                state = initial_state(world.plan)
                state = {block: array + np.float32(0.5) for block, array in state.items()}
                digest = world.hq.blobs.put(encode_state(world.plan, state))
                assignment = dataclasses.replace(assignment, state_digest=digest)
            case "blocks":
                own, *others = assignment.members
                own = dataclasses.replace(own, tiles=own.tiles[:-1])
                assignment = dataclasses.replace(assignment, members=(own, *others))
            case "scored heads":
                assignment = world.assignment(2, scored_of=((0,),) * 4)
            case _:
                write_rows(world.root / "rows.csv", (("hose burst", "pump"), ("no start", "engine")))
        with capture_logs() as entries:
            await end_before_masking(world, 2, assignment)
        assert offers(entries) == 0


async def test_an_agent_that_starts_again_leaves_the_round_and_joins_the_next(world: World) -> None:
    async with world.agent():
        world.prepare()
        measured = await world.hq.hear(JobProfile)
        current = Round(world, *world.train(1))
        await current.advertise()
    left = await world.hq.hear(Left)
    assert left == Left(world.plan.job_id, 1, DropReason.LEFT)
    async with world.agent():
        # The stream begins anew: Prepare, and round 1 of the earlier process.
        left = await world.hq.hear(Left)
        assert (left.round_number, left.reason) == (1, DropReason.RESTARTED)
        # Not measured again: the very same figures.
        assert await world.hq.hear(JobProfile) == measured
        second = Round(world, *world.train(2))
        await second.advertise()


async def test_missing_data_is_told_before_anything_is_downloaded(world: World) -> None:
    text = world.config_path.read_text()
    world.config_path.write_text(text.replace("[data.orders]", "[data.other]"))
    async with world.agent():
        world.prepare()
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 0, DropReason.DATA)
    assert list((world.config_path.parent / "cache" / "blobs").iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.unlink(),
        lambda rows: rows.write_bytes(b"text,label\n\xff\xfe,pump\n"),
        lambda rows: rows.write_text("text,label\nhose burst,pmup\n"),
        lambda rows: rows.write_text("description,label\nhose burst,pump\n"),
    ],
    ids=["missing", "not text", "unknown label", "missing column"],
)
async def test_bad_data_is_told_as_a_reason_only(world: World, spoil: Any) -> None:
    spoil(world.root / "rows.csv")
    async with world.agent():
        world.prepare()
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 0, DropReason.DATA)


async def test_data_that_is_spoilt_between_rounds_leaves_the_round(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        write_rows(world.root / "rows.csv", (("hose burst", "pmup"),))
        world.train(1)
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.DATA)


async def test_a_limit_below_what_training_takes_leaves_the_round(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
    async with world.agent({"RAVAN_AGENT_RAM_LIMIT_MB": "8"}):
        hardware = await world.hq.hear(HardwareProfile)
        while hardware.ram_limit_source is not LimitSource.CONFIG:
            hardware = await world.hq.hear(HardwareProfile)
        assert hardware.ram_limit_bytes == 8 << 20
        assert (await world.hq.hear(Left)).reason is DropReason.MEMORY


async def test_a_limit_that_fell_between_rounds_is_reported_before_the_round_is_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        with monkeypatch.context() as tight:
            fallen = MemoryLimit(limit_bytes=8 << 20, source=LimitSource.CGROUP)
            tight.setattr(LimitReader, "read", lambda _: fallen)
            world.train(1)
            while (await world.hq.hear(HardwareProfile)).ram_limit_bytes != 8 << 20:
                pass
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.MEMORY)
        await Round(world, *world.train(2)).trained()


async def test_training_that_outgrows_its_limit_is_given_up_and_costs_more_from_then_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.agent():
        world.prepare()
        measured = await world.hq.hear(JobProfile)
        with monkeypatch.context() as crowded:
            crowded.setattr("edge_agent.training.trainer.PeakMeter.peak_bytes", lambda _: 1 << 50)
            world.train(1)
            corrected = await world.hq.hear(JobProfile)
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.MEMORY)
        assert corrected.ram_loaded_bytes == measured.ram_loaded_bytes
        assert corrected.peak_bytes(4) > 1 << 49
    async with world.agent():
        # A new process knows it too.
        world.prepare()
        assert await world.hq.hear(JobProfile) == corrected


async def test_a_plan_under_another_key_is_ignored(world: World) -> None:
    payload = encode_plan(world.plan)
    async with world.agent():
        await world.hq.hear(Attached)
        world.hq.tell(Prepare(plan=sign_document(DocumentKind.PLAN, payload, identity_key(5))))
        world.prepare()
        # The first thing that the agent says about jobs is the answer to the good one.
        assert (await world.hq.hear(JobProfile)).plan_digest == world.plan_digest
    assert world.hq._heard.empty()


async def test_what_the_coordinator_refuses_ends_the_round_here(world: World) -> None:
    world.hq.refuse = lambda _: StateError("Too late.", reason=ErrorReason.WRONG_STATE)
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        left = await world.hq.hear(Left)
        assert (left.round_number, left.reason) == (1, DropReason.PROTOCOL)


async def test_a_coordinator_that_was_put_back_to_a_backup_finds_the_site_ready_for_its_new_run(world: World) -> None:
    async with world.agent():
        await world.hq.hear(Attached)
        world.prepare()
        await world.hq.hear(JobProfile)
        await end_before_masking(world, 1)
        before = Round(world, *world.train(2))
        await before.advertise()
        await before.share()
        await before.upload()

        world.hq.restore()
        assert (await world.hq.hear(Attached)).after_sequence > 0
        assert (await world.hq.hear(Attached)).after_sequence == 0
        plan = dataclasses.replace(world.plan, run_id=RunId(b"r" * 16))
        world.job = dataclasses.replace(world.job, plan=plan)
        world.prepare()
        assert (await world.hq.hear(JobProfile)).plan_digest == world.plan_digest
        after = Round(world, *world.train(1))
        await after.run()
        after.finish()
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
    ledger = json.loads((world.config_path.parent / "state" / "rounds.json").read_text())
    assert ledger == {before.assignment.run_id.hex(): 2, plan.run_id.hex(): 1}
    assert list((world.config_path.parent / "state" / "rounds").iterdir()) == []


async def test_the_end_of_the_job_calls_training_off(world: World) -> None:
    world.job = tiny_job(world.root / "long", steps=1_000_000)
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        world.train(1)
        await world.hq.until(lambda beat: beat.activity is AgentActivity.TRAINING and beat.done > 0)
        world.hq.tell(JobEnded(job_id=world.plan.job_id, state=JobState.STOPPED))
        await world.hq.until(lambda beat: beat.activity is AgentActivity.IDLE)
    assert world.hq._heard.empty()


async def test_a_round_that_cannot_be_noted_on_disk_is_left_untrained(world: World) -> None:
    ledger = world.config_path.parent / "state" / "rounds.json"
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        ledger.mkdir()  # nothing can be written in its place
        world.train(1)
        assert (await world.hq.hear(Left)).round_number == 1
        ledger.rmdir()
        assignment, digest = world.train(2)
        await Round(world, assignment, digest).advertise()
    assert '"' + assignment.run_id.hex() + '": 2' in ledger.read_text()


def with_key(assignment: Assignment, index: int, key: bytes) -> Assignment:
    members = list(assignment.members)
    members[index] = dataclasses.replace(members[index], identity_key=key)
    return dataclasses.replace(assignment, members=tuple(members))


async def test_a_site_with_another_key_than_before_is_not_trained_with(world: World) -> None:
    state = world.config_path.parent / "state"
    known, other_key = AcquaintanceFile(state), raw_public(identity_key(9))
    with capture_logs() as logs:
        async with world.agent():
            world.prepare()
            await world.hq.hear(JobProfile)
            await Round(world, *world.train(1)).advertise()
            remembered = known.read()
            assert {each.site: each.identity_key for each in remembered} == {
                SiteId(f"site-{i}"): raw_public(identity_key(i)) for i in (1, 2, 3)
            }
            world.train(2, with_key(world.assignment(2), 2, other_key))
            assert await world.hq.hear(Left) == Left(world.plan.job_id, 2, DropReason.REFUSED)
            assert list(known.read()) == list(remembered)
            assert '": 1' in (state / "rounds.json").read_text()  # round 2 was never taken
            # The running agent reads the file again, so nobody has to start it anew.
            known.forget(SiteId("site-2"))
            await Round(world, *world.train(3, with_key(world.assignment(3), 2, other_key))).trained()
    assert {each.site: each.identity_key for each in known.read()}[SiteId("site-2")] == other_key
    refusals = [line for line in logs if line["log_level"] == "error"]
    assert len(refusals) == 1
    assert "'site-2'" in refusals[0]["event"]
    assert "site forget" in refusals[0]["next_step"]
    assert {line["round"] for line in logs if line["event"] == "training"} == {1, 3}


async def test_newcomers_are_said_once_and_only_by_fingerprint(world: World) -> None:
    with capture_logs() as logs:
        async with world.agent():
            world.prepare()
            await world.hq.hear(JobProfile)
            for number in (1, 2, 3):
                assignment = world.assignment(number)
                if number > 1:
                    late = dataclasses.replace(
                        assignment.members[1], index=4, site=SiteId("late"), identity_key=raw_public(identity_key(7))
                    )
                    assignment = dataclasses.replace(assignment, members=(*assignment.members, late))
                current = Round(world, *world.train(number, assignment))
                await current.trained()
    said = [(line["log_level"], line["event"], line["sites"]) for line in logs if "sites" in line]
    prints = {i: hashlib.sha256(raw_public(identity_key(i))).hexdigest()[:16] for i in (1, 2, 3, 7)}
    assert [level for level, _, _ in said] == ["info", "warning"]
    assert said[0][2] == f"site-1 {prints[1]}, site-2 {prints[2]}, site-3 {prints[3]}"
    assert said[1][1:] == ("new sites in this federation", f"late {prints[7]}")
    assert not any(raw_public(identity_key(i)).hex() in str(logs) for i in prints)


async def test_a_damaged_memory_of_sites_leaves_the_round(world: World) -> None:
    path = world.config_path.parent / "state" / "known_sites.json"
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        path.write_text("{}}")
        world.train(1)
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.REFUSED)
    assert path.read_text() == "{}}"
