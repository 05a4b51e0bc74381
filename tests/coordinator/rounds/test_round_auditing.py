"""What jobs and rounds leave in the audit log, and which heads their sites are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plant import MANIFEST_KEY, Plant

from coordinator.audit.chain import AuditRecord
from coordinator.audit.reading import verify_log
from ravan.manifest.instructions import RoundResult
from ravan.manifest.phases import JobState


async def records_of(plant: Plant) -> list[AuditRecord]:
    def read(t: Any) -> list[AuditRecord]:
        assert verify_log(t, MANIFEST_KEY.public_key(), (), lambda *_: None).is_sound
        return list(t.audit_records_after(0, 1000))

    return await plant.store.transact("read_log", read)


async def test_a_round_is_recorded_in_order_and_its_sites_are_told_the_head(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        detail = await plant.until(job_id, lambda detail: detail.record.state is JobState.COMPLETED)
        records = await records_of(plant)
        kinds = [record.kind for record in records]
        steps = ["job_submitted", "round_opened", "roster_signed", "survivors_chosen", "round_committed", "job_ended"]
        assert [kind for kind in kinds if kind in steps] == steps
        facts = {record.kind: json.loads(record.facts) for record in records}
        [committed] = [record for record in records if record.kind == "round_committed"]
        assert facts["round_committed"]["state"] == detail.record.state_digest.hex()
        assert sorted(facts["round_committed"]["summed"]) == sorted(detail.rounds[0].completed)
        assert facts["survivors_chosen"]["survivors"] == list(detail.rounds[0].completed)
        assert facts["roster_signed"]["members"] == list(detail.rounds[0].selected)
        for site in plant.sites:
            told = [each for each in site.heard if isinstance(each, RoundResult)]
            heads = {(each.audit_sequence, each.audit_head.hex()) for each in told}
            assert heads == {(committed.sequence, committed.head)}


async def test_what_operators_do_with_a_job_is_recorded_under_their_name(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        job_id = await plant.submit(rounds=1)
        await plant.conductor.pause_job(job_id, "operator:ann:1")
        await plant.conductor.pause_job(job_id, "operator:bob:2")
        await plant.conductor.resume_job(job_id, "operator:bob:2")
        await plant.conductor.stop_job(job_id, "operator:ann:1")
        found = [(record.kind, record.actor) for record in await records_of(plant)]
        assert found == [
            ("job_submitted", "coordinator"),
            ("job_paused", "operator:ann:1"),
            ("job_resumed", "operator:bob:2"),
            ("job_ended", "operator:ann:1"),
        ]


async def test_a_round_that_is_interrupted_is_recorded_as_such(tmp_path: Path) -> None:
    async with Plant(tmp_path) as plant:
        await plant.connect_all()
        job_id = await plant.submit(rounds=1)
        await plant.until(job_id, lambda detail: bool(detail.rounds))
        await plant.conductor.stop_job(job_id, "operator:ann:1")
        ended = [record for record in await records_of(plant) if record.kind == "round_ended"]
        assert [json.loads(record.facts)["outcome"] for record in ended] == ["stopped"]
