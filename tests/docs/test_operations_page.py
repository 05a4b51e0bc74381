"""`docs/operations.md` explains every error reason, every file that the programs make, and the real ports."""

from __future__ import annotations

from pathlib import Path

from pages import read_codes, read_page, read_rows, read_section

from coordinator.config import DataFolder, ServerTable
from coordinator.enrolment import pki
from coordinator.founding import found_coordinator
from edge_agent.config import AgentTable
from edge_agent.identity import keystore
from ravan.errors import ErrorReason

PAGE = read_page("operations.md")


def first_cells(heading: str) -> set[str]:
    rows = [line for line in read_section(PAGE, heading).splitlines() if line.startswith("| ")]
    return set().union(*(read_codes(row.split("|")[1]) for row in rows))


def test_every_error_reason_is_explained_once() -> None:
    rows = read_rows(read_section(PAGE, "## What each error means"))
    assert sorted(row[0] for row in rows) == sorted(ErrorReason)
    assert all(len(row) == 3 and row[1].endswith(".") and row[2].endswith(".") for row in rows)


def test_every_file_of_a_new_coordinator_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "hq"
    found_coordinator(root, ["localhost"], now=1.8e9)
    listed = first_cells("## What lies where: the coordinator")
    made = {path.relative_to(root).as_posix() + "/" * path.is_dir() for path in root.iterdir() if path.name != "pki"}
    made |= {f"pki/{path.name}" for path in (root / "pki").iterdir()}
    folder = DataFolder(root)
    runtime = {folder.lock.name, folder.workers_lock.name, folder.ports.name, f"{folder.cache.name}/", "-wal", "-shm"}
    rolling = {pki.NEXT_CA_KEY, pki.NEXT_CA_CERTIFICATE, pki.OLD_CA_CERTIFICATE, pki.HAND_OVER}
    runtime |= {f"pki/{name}" for name in rolling}
    assert made <= listed
    assert listed <= made | runtime
    assert {f"pki/{name}" for name in rolling} <= listed


def test_every_file_of_an_agent_is_listed() -> None:
    listed = {name.rpartition("/")[2] or name for name in first_cells("## What lies where: the agent")}
    secrets = {keystore.TLS_KEY, keystore.IDENTITY_KEY, keystore.NEXT_KEY}
    others = {keystore.TLS_CERTIFICATE, keystore.CA_CERTIFICATE, keystore.MANIFEST_KEY, keystore.SITE_FILE}
    others |= {keystore.NEXT_CERTIFICATE}
    folders = {f"{AgentTable().cache_dir}/", f"{AgentTable().state_dir}/"}
    assert listed == secrets | others | folders | {"agent.toml"}


def test_ports_are_the_defaults() -> None:
    section = read_section(PAGE, "## Ports and firewall")
    ports = [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")][1:]
    server = ServerTable(hosts=("localhost",))
    assert ports == [str(port) for port in (server.enrolment_port, server.site_port, server.http_port)]
