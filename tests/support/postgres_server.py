"""A real PostgreSQL server on loopback, in a folder that goes with it; each test takes a database of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from coordinator.store.sql.database import PostgresAddress

USER, PASSWORD = "ravan", "p%ss word"
SYSTEM_USER = "postgres"
"""Who runs the server when the tests run as root: PostgreSQL refuses root."""


@dataclass
class PostgresServer:
    """A server that can be stopped and started."""

    programs: Path
    folder: Path
    port: int
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_database(self) -> PostgresAddress:
        name = f"ravan_{next(self.numbers)}"
        self.sql(f'CREATE DATABASE {name} OWNER "{USER}"')
        return PostgresAddress(url=f"postgresql://{USER}@127.0.0.1:{self.port}/{name}", password=PASSWORD)

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement as the superuser, through the socket."""
        return self._run("psql", "-h", str(self.folder), "-p", str(self.port), "-XAtc", statement, database)

    def cut_connections(self) -> None:
        """End every session of the coordinators' user, as an administrator may."""
        mine = f"usename = '{USER}'"
        self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")  # noqa: S608 - a constant

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-l", str(self.folder / "log"), "-wo", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-wm", mode, "stop")

    def initialise(self) -> None:
        # A language's order of names, as most servers have: what is listed must not depend on it.
        language = ("--encoding=UTF8", "--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8")
        secrecy = ("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync")
        self._run("initdb", "-D", str(self.folder / "data"), "-U", SYSTEM_USER, *language, *secrecy)
        self.start()
        self.sql(f"CREATE ROLE \"{USER}\" LOGIN PASSWORD '{PASSWORD}'")

    def _run(self, program: str, *arguments: str) -> str:
        path = self.programs / program
        command = [str(path), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", SYSTEM_USER, "--", *command]
        environment = {**os.environ, "PGUSER": SYSTEM_USER}
        with (self.folder / "commands").open("a") as errors:
            # Not a pipe: the server keeps what pg_ctl inherited, and the pipe would never end.
            wanted = subprocess.PIPE if program == "psql" else subprocess.DEVNULL
            done = subprocess.run(
                command, cwd=self.folder, env=environment, stdout=wanted, stderr=errors, text=True, check=False
            )
        assert done.returncode == 0, f"{command}: {(self.folder / 'commands').read_text()}"
        return (done.stdout or "").strip()


def find_programs() -> Path:
    """Return the folder of initdb and pg_ctl: on PATH, else where Debian puts them, the newest version."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions: Sequence[Path] = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not versions:
        pytest.fail("These tests need a PostgreSQL server: `apt-get install postgresql`.", pytrace=False)
    return versions[-1].parent


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server, as another user where the tests run as root."""
    # Not pytest's folder: its path is too long for a socket, and root's alone.
    folder = Path(tempfile.mkdtemp(prefix="ravan-postgres-"))
    server = PostgresServer(find_programs(), folder, _free_port())
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, SYSTEM_USER)
        server.initialise()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop("immediate")
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server
