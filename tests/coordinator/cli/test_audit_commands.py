"""`audit verify` and `audit export` as an auditor uses them, on logs that somebody with the database has changed."""

# ruff: noqa: S608 - the statements are those of whoever tampers with the database

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from coordinator_process import Headquarters, found, serving

from coordinator.audit.export import COLUMNS
from coordinator.cli import cli
from ravan.errors import DataError
from ravan.identity.certificates import load_certificate, serial_text

RECORDS = 6
"""Started, configured, three tokens, started."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Headquarters:
    """Serve twice; three join strings in between."""
    headquarters = found(tmp_path_factory.mktemp("audit") / "hq")
    with serving(headquarters):
        for name in ("north", "south", "west"):
            assert headquarters.run("token", "create", "--site", name).returncode == 0
    with serving(headquarters):
        pass
    return headquarters


@pytest.fixture
def tampered(recorded: Headquarters) -> Iterator[sqlite3.Connection]:
    """Give the database to whoever wants to change it, and put it back."""
    path = recorded.folder / "ravan.db"
    kept = path.read_bytes()
    with sqlite3.connect(path) as database:
        yield database
    database.close()
    for file in path.parent.glob("ravan.db*"):
        file.unlink()
    path.write_bytes(kept)


def command(headquarters: Headquarters, *arguments: str | Path) -> Result:
    """Run one command in this process."""
    return CliRunner().invoke(cli, ["audit", *map(str, arguments), "--config", str(headquarters.config)])


def test_a_log_that_nobody_touched_is_whole(recorded: Headquarters) -> None:
    done = recorded.run("audit", "verify")
    assert done.returncode == 0, done.stderr
    assert f"is whole: {RECORDS} records" in done.stdout
    assert "--witness" in done.stdout
    verdict = recorded.read("audit", "verify")
    assert (verdict["sound"], verdict["records"], verdict["findings"]) == (True, RECORDS, [])


def test_an_operator_s_deed_carries_the_serial_of_the_certificate(recorded: Headquarters, tmp_path: Path) -> None:
    out = tmp_path / "log.json"
    assert command(recorded, "export", "--format", "json", "--out", out).exit_code == 0
    records = json.loads(out.read_text())
    serial = serial_text(load_certificate((recorded.folder / "pki" / "admin.crt").read_bytes()))
    made = [each for each in records if each["kind"] == "token_created"]
    assert [(each["actor"], each["subject"]) for each in made] == [
        (f"operator:admin:{serial}", name) for name in ("north", "south", "west")
    ]
    assert [each["kind"] for each in records] == ["started", "configured", *["token_created"] * 3, "started"]
    assert [each["sequence"] for each in records] == [*range(1, RECORDS + 1)]


@pytest.mark.parametrize("sequence", [1, 3, RECORDS])
@pytest.mark.parametrize("column", ["sequence", "at_ms", "kind", "actor", "subject", "facts", "head"])
def test_every_column_of_a_record_is_covered(
    recorded: Headquarters, tampered: sqlite3.Connection, sequence: int, column: str
) -> None:
    other = {"sequence": 70, "at_ms": 1, "head": "ab" * 32}.get(column, "other")
    tampered.execute(f"UPDATE audit_records SET {column} = ? WHERE sequence = ?", (other, sequence))
    tampered.commit()
    assert_found(recorded)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit_records WHERE sequence = 1",
        "DELETE FROM audit_records WHERE sequence = 3",
        f"DELETE FROM audit_records WHERE sequence = {RECORDS}",
        "DELETE FROM audit_records WHERE sequence > 2",
        "DELETE FROM audit_records",
        "DELETE FROM audit_seals",
        "UPDATE audit_seals SET sequence = sequence - 1",
        "UPDATE audit_seals SET signature = 'none'",
        "UPDATE audit_records SET sequence = -1 WHERE sequence = 1",
        "UPDATE audit_records SET sequence = 'first' WHERE sequence = 1",
        "INSERT INTO audit_records SELECT sequence + 1, at_ms, kind, actor, subject, facts, head FROM audit_records"
        f" WHERE sequence = {RECORDS}",
        "INSERT INTO audit_records SELECT -1, at_ms, kind, actor, subject, facts, head FROM audit_records"
        f" WHERE sequence = {RECORDS}",
    ],
)
def test_records_that_are_gone_moved_or_put_in_are_found(
    recorded: Headquarters, tampered: sqlite3.Connection, change: str
) -> None:
    tampered.execute(change)
    tampered.commit()
    assert_found(recorded)


def test_two_records_that_changed_places_are_found(recorded: Headquarters, tampered: sqlite3.Connection) -> None:
    for before, after in ((3, 99), (4, 3), (99, 4)):
        tampered.execute("UPDATE audit_records SET sequence = ? WHERE sequence = ?", (after, before))
    tampered.commit()
    assert_found(recorded)


def test_a_log_without_records_and_seal_is_not_called_whole(
    recorded: Headquarters, tampered: sqlite3.Connection
) -> None:
    for table in ("audit_records", "audit_checkpoints", "audit_seals"):
        tampered.execute(f"DELETE FROM {table}")
    tampered.commit()
    assert "no record" in assert_found(recorded)


def test_an_altered_record_is_exported_as_it_is(
    recorded: Headquarters, tampered: sqlite3.Connection, tmp_path: Path
) -> None:
    tampered.execute("UPDATE audit_records SET at_ms = 'never' WHERE sequence = 3")
    tampered.commit()
    out = tmp_path / "log.csv"
    done = command(recorded, "export", "--from", "2020-01-01", "--out", out)
    assert done.exit_code == 0, done.output
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[2]["time"], rows[2]["at_ms"], len(rows)) == ("", "never", RECORDS)


def assert_found(headquarters: Headquarters) -> str:
    done = command(headquarters, "verify")
    assert done.exit_code == 1, done.output
    assert "not as it was written" in done.stderr
    as_json = command(headquarters, "verify", "--json")
    verdict = json.loads(as_json.stdout)
    assert (as_json.exit_code, verdict["sound"]) == (1, False)
    assert verdict["findings"]
    return done.stdout


def test_a_witness_confirms_or_contradicts(recorded: Headquarters, tmp_path: Path) -> None:
    out, witness = tmp_path / "log.json", tmp_path / "witness.json"
    command(recorded, "export", "--format", "json", "--out", out)
    records = json.loads(out.read_text())
    heads = [{"sequence": each["sequence"], "head": each["head"]} for each in records[1:4]]
    witness.write_text(json.dumps({"heads": heads}))
    done = command(recorded, "verify", "--witness", witness)
    assert done.exit_code == 0, done.stdout
    assert "All 3 heads" in done.stdout
    witness.write_text(json.dumps({"heads": [*heads, {"sequence": 2, "head": "ab" * 32}]}))
    done = command(recorded, "verify", "--witness", witness)
    assert (done.exit_code, "another chain at record 2" in done.stdout) == (1, True)
    witness.write_text(json.dumps({"heads": [{"sequence": 700, "head": "ab" * 32}]}))
    assert "record 700, which is not there" in command(recorded, "verify", "--witness", witness).stdout


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"heads": []}',
        '{"heads": 7}',
        '{"heads": [{"sequence": 0, "head": ""}]}',
        '{"heads": [{"sequence": true, "head": "abab"}]}',
        '{"heads": [{"sequence": 1, "head": "xy"}]}',
        "[" * 9000,
    ],
)
def test_a_file_that_is_no_witness_is_refused(recorded: Headquarters, tmp_path: Path, content: str) -> None:
    path = tmp_path / "witness.json"
    path.write_text(content)
    raised = command(recorded, "verify", "--witness", path).exception
    assert isinstance(raised, DataError)
    assert "witness.json" in str(raised)
    assert "ravan-agent audit --json" in raised.next_step


def test_a_period_is_exported_alone(recorded: Headquarters, tmp_path: Path) -> None:
    out = tmp_path / "log.csv"
    done = command(recorded, "export", "--from", "2020-01-01", "--to", "2020-02-01T08:00", "--out", out)
    assert (done.exit_code, "0 records" in done.stdout) == (0, True), done.output
    assert out.read_text().splitlines() == [",".join(COLUMNS)]
    assert out.stat().st_mode & 0o777 == 0o600
    done = command(recorded, "export", "--from", "2020-01-01", "--out", out)
    assert f"{RECORDS} records" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize(
    "options", [("--from", "yesterday"), ("--from", "2021-01-01", "--to", "2020-01-01"), ("--format", "xml")]
)
def test_wrong_use_ends_with_code_2(recorded: Headquarters, tmp_path: Path, options: tuple[str, ...]) -> None:
    assert command(recorded, "export", *options, "--out", tmp_path / "log.csv").exit_code == 2
    assert not (tmp_path / "log.csv").exists()


def test_the_log_is_read_while_the_daemon_runs(recorded: Headquarters, tmp_path: Path) -> None:
    other = found(tmp_path / "hq")
    with serving(other):
        assert command(other, "verify").exit_code == 0


def test_a_coordinator_that_was_never_started_has_no_log_to_trust(tmp_path: Path) -> None:
    done = found(tmp_path / "new").run("audit", "verify")
    assert (done.returncode, "was not started yet" in done.stdout) == (1, True)
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_witness_ends_the_program_with_a_sentence(recorded: Headquarters, tmp_path: Path) -> None:
    path = tmp_path / "witness.json"
    path.write_text("{}")
    done = recorded.run("audit", "verify", "--witness", path)
    assert (done.returncode, "is no witness file" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
