"""A real round: what the coordinator recorded is whole, and the sites hold heads of it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from tiny_fleet import Fleet, running_fleet

SITES = ("north", "south", "west")


def exported(fleet: Fleet, path: Path) -> list[dict[str, Any]]:
    done = fleet.hq("audit", "export", "--format", "json", "--out", path)
    assert done.returncode == 0, done.stderr
    records = json.loads(path.read_text())
    return [{**record, "facts": json.loads(record["facts"])} for record in records]


def test_a_round_is_recorded_and_witnessed(tmp_path: Path) -> None:
    witness = tmp_path / "witness.json"
    with running_fleet(tmp_path) as fleet:
        fleet.add_model()
        for name in SITES:
            fleet.enrol(name)
            fleet.start(name)
        assert fleet.submit().returncode == 0
        fleet.await_job("completed")
        for name in SITES:
            fleet.stop(name)
        told = fleet.agent(SITES[0], "audit", "--json")
        witness.write_text(told.stdout)
        head = json.loads(told.stdout)["heads"][-1]
        assert "heads" in fleet.agent(SITES[0], "audit").stdout
        done = fleet.hq("audit", "verify", "--witness", witness)
        assert done.returncode == 0, done.stdout
        assert fleet.hq("export", "tiny", "--format", "heads", "--out", tmp_path / "heads").returncode == 0
        assert fleet.hq("site", "revoke", "west").returncode == 0
        records = exported(fleet, tmp_path / "log.json")
        job = json.loads(fleet.hq("job", "show", "tiny", "--json").stdout)
    kinds = [record["kind"] for record in records]
    assert kinds[:2] == ["started", "configured"]
    assert kinds.count("enrolled") == len(SITES)
    rounds = [kind for kind in kinds if kind.startswith(("round", "roster", "survivors"))]
    assert rounds == ["round_opened", "roster_signed", "survivors_chosen", "round_committed"]
    assert kinds[-2:] == ["exported", "revoked"]
    by_kind = {record["kind"]: record for record in records}
    assert by_kind["round_committed"]["facts"]["state"] == job["rounds"][0]["state_digest"]
    assert sorted(by_kind["round_committed"]["facts"]["summed"]) == list(SITES)
    assert by_kind["roster_signed"]["facts"]["threshold"] == 3
    plan = json.loads((tmp_path / "heads" / "plan.json").read_text())
    subjects = [record["subject"] for record in records if record["kind"] == "exported"]
    assert subjects == [job["rounds"][0]["state_digest"], plan["directions"]]
    assert by_kind["revoked"]["actor"].startswith("operator:admin:")
    assert (head["sequence"], head["head"]) == (
        by_kind["round_committed"]["sequence"],
        by_kind["round_committed"]["head"],
    )
    with sqlite3.connect(fleet.plant.coordinator_folder / "ravan.db") as database:
        database.execute("DELETE FROM audit_records WHERE sequence > 4")
    done = fleet.hq("audit", "verify", "--witness", witness)
    assert (done.returncode, f"saw record {head['sequence']}" in done.stdout) == (1, True)
