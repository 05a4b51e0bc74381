"""Pods of the chart, done on this machine: their own commands and variables, with paths moved into a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from helm_chart import ROOT, Rendered, needs_helm, rendered
from postgres_server import PASSWORD, PostgresServer, postgres
from programs import put_on_path

from ravan.identity.join import decode_invitation

__all__ = ["postgres"]

pytestmark = needs_helm

SOME_PORTS = {f"RAVAN_SERVER_{name}_PORT": "0" for name in ("ENROLMENT", "SITE", "HTTP")}
HERE = {"RAVAN_SERVER_LISTEN": "127.0.0.1", "RAVAN_SERVER_HTTP_LISTEN": "127.0.0.1", **SOME_PORTS}


@dataclass
class Node:
    """A folder that stands for the pod's root."""

    root: Path
    path: str
    more: dict[str, str] = field(default_factory=dict)
    """Variables that stand for what is elsewhere here than in a cluster."""

    def move(self, text: str) -> str:
        for place in ("/var/lib/ravan", "/etc/ravan"):
            text = text.replace(place, f"{self.root}{place}")
        return text

    def mount(self, chart: Rendered) -> None:
        folder = self.root / "etc" / "ravan"
        folder.mkdir(parents=True)
        (self.root / "var" / "lib" / "ravan").mkdir(parents=True)
        (folder / "coordinator.toml").write_text(self.move(chart.configuration()), encoding="utf-8")

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        variables: dict[str, str] = {}
        for each in container["env"]:
            # The only field that is asked for is the pod's name.
            value = each.get("value", "hq-ravan-0")
            for name, known in variables.items():
                value = value.replace(f"$({name})", known)
            variables[each["name"]] = self.move(value)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAVAN_")}
        return {**kept, **variables, **HERE, **self.more, "PATH": self.path}

    def command(self, container: Mapping[str, Any]) -> Sequence[str]:
        return [self.move(word) for word in container["command"]]

    def run(self, container: Mapping[str, Any]) -> str:
        done = subprocess.run(
            self.command(container), env=self.environment(container), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def started(self, container: Mapping[str, Any], *, until: str) -> Iterator[str]:
        """Run it until it has said something; end it as the kubelet does."""
        process = subprocess.Popen(
            self.command(container),
            env=self.environment(container),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        patience = threading.Timer(60, process.kill)
        patience.start()
        said = ""
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said += line
                if until in line:
                    break
            else:
                raise AssertionError(said)
            yield said
        finally:
            patience.cancel()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    tools = tmp_path / "bin"
    tools.mkdir()
    start = tools / "coordinator-start"
    start.write_text((ROOT / "deploy" / "docker" / "coordinator-start.sh").read_text(encoding="utf-8"))
    start.chmod(0o755)
    return Node(tmp_path / "root", put_on_path(tools))


def answer_of(address: str, path: str) -> int:
    host, _, port = address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_pod_founds_its_volume_once_serves_and_answers_its_probes(node: Node) -> None:
    chart = rendered("sqlite")
    node.mount(chart)
    pod = chart.pods()["coordinator"]["spec"]
    [begin], [container] = pod["initContainers"], pod["containers"]
    folder = node.root / "var" / "lib" / "ravan" / "hq"
    assert "Created " in node.run(begin)
    keys = {path: path.read_bytes() for path in (folder / "pki").rglob("*") if path.is_file()}
    assert keys
    # What is at hand by the usual name is what is in force.
    assert (folder / "coordinator.toml").samefile(node.root / "etc" / "ravan" / "coordinator.toml")
    assert node.run(begin) == ""
    assert {path: path.read_bytes() for path in keys} == keys
    certificate = x509.load_pem_x509_certificate((folder / "pki" / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(chart.server()["hosts"]) <= set(names.get_values_for_type(x509.DNSName))
    with node.started(container, until=" ready: ") as said:
        [address] = [word.strip(",\n") for word in said.split() if word.startswith("http://")]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert answer_of(address, container[probe]["httpGet"]["path"]) == 200
        assert answer_of(address, "/absent") == 404
        # As NOTES.txt says: without --config.
        token = {**container, "command": ["ravan-coordinator", "token", "create", "--site", "north"]}
        [join] = [word for word in node.run(token).split() if len(word) > 100]
        assert decode_invitation(join).address.host == "hq.example"
    with node.started(container, until=" ready: "):
        pass


def test_a_volume_that_was_founded_by_half_is_left_as_it_is(node: Node) -> None:
    chart = rendered("sqlite")
    node.mount(chart)
    (node.root / "var" / "lib" / "ravan" / "hq" / "pki").mkdir(parents=True)
    [begin] = chart.pods()["coordinator"]["spec"]["initContainers"]
    done = subprocess.run(node.command(begin), env=node.environment(begin), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "already holds a coordinator" in done.stderr


def test_replicas_and_workers_share_a_volume_and_a_database(node: Node, postgres: PostgresServer) -> None:
    chart = rendered("postgresql")
    node.mount(chart)
    pods = {part: pod["spec"] for part, pod in chart.pods().items()}
    secrets = node.root / "secrets"
    secrets.mkdir()
    (secrets / "password").write_text(PASSWORD)
    node.more = {
        "RAVAN_DATABASE_URL": postgres.new_database().url,
        "RAVAN_DATABASE_PASSWORD_FILE": str(secrets / "password"),
        # No object store is at hand here; blobs are in the shared folder then.
        "RAVAN_OBJECTS_BUCKET": "",
        # Nor a name server that knows the cluster's names.
        "RAVAN_SERVER_PEER_HOST": "localhost",
    }
    [begin], [serve] = pods["coordinator"]["initContainers"], pods["coordinator"]["containers"]
    [wait], [work] = pods["worker"]["initContainers"], pods["worker"]["containers"]
    with node.started(wait, until="waiting for the coordinator"):
        assert "Created " in node.run(begin)
    node.run(wait)
    with node.started(serve, until=" ready: "), node.started(work, until=" ready"):
        assert node.run(begin) == ""
        with node.started(serve, until=" ready: "):
            sites = {**serve, "command": ["ravan-coordinator", "token", "create", "--site", "north"]}
            # The second follows: the leader answers through it, at the name of its own.
            assert len(node.run(sites)) > 100
