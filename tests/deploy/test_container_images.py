"""Images and compose file, as far as that goes without a container engine; their scripts are run for real."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from programs import put_on_path

from deploy.docker.lock import EXTRAS, wanted_of

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
BIN = Path(sys.executable).parent
LOCKS = (*EXTRAS, "build.lock")
MADE_BY_OPERATORS = ("example", "deploy/docker/secrets", "${SECRETS")
"""Places that the commands at the top of the compose file make."""


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def pins_of(lock: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by package."""
    text = (DOCKER / lock).read_text(encoding="utf-8")
    found = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", text, re.MULTILINE)
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert len(found) == len(entries), "every entry has its hashes"
    return {canonicalize_name(name): (pinned, hashes.count("--hash=")) for name, pinned, hashes in found}


@pytest.mark.parametrize("image", ["coordinator", "agent"])
def test_the_linter_has_no_remark(image: str) -> None:
    done = subprocess.run(
        [BIN / "hadolint", DOCKER / f"{image}.Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_keeps_to_the_specification() -> None:
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_service_is_locked_down() -> None:
    services = compose()["services"]
    assert {"coordinator", "north", "south", "west", "east", "centre", "prometheus", "grafana"} <= set(services)
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name


def test_images_are_built_here_or_have_a_version() -> None:
    services = compose()["services"].values()
    built = {service["image"] for service in services if "build" in service}
    for service in services:
        assert service["image"] in built or re.fullmatch(r"[a-z/]+:[A-Za-z]*\.?v?\d[\w.-]*", service["image"])


def test_what_is_mounted_is_there_or_made_by_a_command_of_its_header() -> None:
    loaded = compose()
    mounts = [each.split(":")[0] for service in loaded["services"].values() for each in service.get("volumes", ())]
    files = [secret["file"] for secret in loaded["secrets"].values()]
    for place in (*mounts, *files):
        if not place.startswith((".", "$")):
            assert place in loaded["volumes"]
        elif not place.removeprefix("./").startswith(MADE_BY_OPERATORS):
            assert (ROOT / place).exists(), place
    for service in loaded["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).exists()


def test_prometheus_and_grafana_are_set_up_as_elsewhere_but_for_addresses(tmp_path: Path) -> None:
    usual = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    here = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    assert here.pop("scrape_configs")[0]["static_configs"] == [{"targets": ["coordinator:9464"]}]
    usual.pop("scrape_configs")
    assert here == usual
    (tmp_path / "rules").symlink_to(ROOT / "deploy" / "prometheus" / "rules")
    (tmp_path / "prometheus.yml").write_text((DOCKER / "prometheus.yml").read_text())
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sources = ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "ravan.yml"
    there, own = (
        yaml.safe_load(path.read_text())["datasources"] for path in (sources, DOCKER / "grafana-datasource.yml")
    )
    assert [{**each, "url": "http://prometheus:9090"} for each in there] == own
    boards = yaml.safe_load((ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "ravan.yml").read_text())
    mounts = [each.split(":") for each in compose()["services"]["grafana"]["volumes"]]
    assert boards["providers"][0]["options"]["path"] in [mount[1] for mount in mounts]


def test_only_the_ports_of_the_coordinator_are_open_to_other_machines() -> None:
    published = [port for service in compose()["services"].values() for port in service.get("ports", ())]
    assert sorted(port for port in published if not port.startswith("127.0.0.1:")) == ["8440:8440", "8443:8443"]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_meets_the_project_at_the_tested_versions(lock: str) -> None:
    pins = pins_of(lock)
    constraints = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    tested = {canonicalize_name(name): pinned for name, pinned in constraints.items()}
    for text in wanted_of(lock):
        wanted = Requirement(text)
        if wanted.name != "torch":  # the Dockerfiles name its version
            pinned, _ = pins[canonicalize_name(wanted.name)]
            assert pinned in wanted.specifier
    for name, (pinned, hashes) in pins.items():
        assert hashes > 0
        assert tested.get(canonicalize_name(name), pinned) == pinned


@pytest.mark.parametrize("image", ["coordinator", "agent"])
def test_an_image_has_the_tested_torch(image: str) -> None:
    pinned = re.search(r"^ARG TORCH=torch==(\S+)$", (DOCKER / f"{image}.Dockerfile").read_text(), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] == version("torch").partition("+")[0]


def test_passwords_are_made_once_and_are_not_each_others(tmp_path: Path) -> None:
    (tmp_path / "make-secrets.sh").write_text((DOCKER / "make-secrets.sh").read_text())
    made = []
    for _ in range(2):
        subprocess.run(["sh", tmp_path / "make-secrets.sh"], check=True, capture_output=True)
        made.append({each.name: each.read_text() for each in (tmp_path / "secrets").iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == set(compose()["secrets"])
    assert len(set(made[0].values())) == 3
    assert all(re.fullmatch(r"[0-9a-f]{48}", each) for each in made[0].values())
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


# The scripts that the containers start with


@contextmanager
def started(script: str, environment: dict[str, str], *, until: str) -> Iterator[list[str]]:
    """Run a start script until it has said something; end it as a container engine does."""
    process = subprocess.Popen(
        ["sh", DOCKER / script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if until in line:
                break
        else:
            raise AssertionError("".join(said))
        yield said
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    tools = tmp_path / "bin"
    tools.mkdir()
    return {
        **os.environ,
        "PATH": put_on_path(tools),
        "RAVAN_SERVER_LISTEN": "127.0.0.1",
        "RAVAN_SERVER_ENROLMENT_PORT": "0",
        "RAVAN_SERVER_SITE_PORT": "0",
        "RAVAN_SERVER_HTTP_PORT": "0",
    }


def test_a_federation_starts_from_nothing_and_again(tmp_path: Path, environment: dict[str, str]) -> None:
    at_hq = {**environment, "RAVAN_FOLDER": str(tmp_path / "hq"), "COORDINATOR_HOSTS": "localhost 127.0.0.1"}
    site = {name: value for name, value in environment.items() if not name.startswith("RAVAN_SERVER")}
    at_site = {
        **site,
        "RAVAN_FOLDER": str(tmp_path / "site"),
        "JOIN_FILE": str(tmp_path / "join" / "north" / "join"),
        "DATA_TABLES": str(DOCKER / "sample-data.toml"),
    }
    (tmp_path / "join" / "north").mkdir(parents=True)
    with started("coordinator-start.sh", at_hq, until=" ready: ") as said:
        assert any(line.startswith("Created ") for line in said)
        for expected in ("invited north\n", ""):
            invited = subprocess.run(
                ["sh", DOCKER / "invite.sh", tmp_path / "join", "north"],
                env=at_hq,
                check=True,
                capture_output=True,
                text=True,
            )
            assert invited.stdout == expected
        with started("agent-start.sh", at_site, until="connected") as told:
            assert any(line.startswith("This PC is") for line in told), told
        written = tomllib.loads((tmp_path / "site" / "agent.toml").read_text())
        assert written["data"]["work-orders"]["path"] == "/data/orders.csv"
        with started("agent-start.sh", at_site, until="connected"):
            assert (tmp_path / "site" / "agent.toml").read_text().count("\n[data.work-orders]") == 1
    with started("coordinator-start.sh", at_hq, until=" ready: ") as said:
        assert not any(line.startswith("Created ") for line in said)


def test_a_coordinator_without_a_name_says_which_variable_to_set(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["sh", DOCKER / "coordinator-start.sh"],
        env={**environment, "RAVAN_FOLDER": str(tmp_path / "hq")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Set COORDINATOR_HOSTS" in done.stderr
    assert not (tmp_path / "hq").exists()
