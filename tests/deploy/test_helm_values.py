"""Which values the chart takes, what it says of others, and that it repeats what stands elsewhere word for word."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_chart import CHART, HELM, ROOT, VALUES, RenderingError, needs_helm, render, values_of

from coordinator.config import CoordinatorFile, ServerTable
from deploy.helm.__main__ import SCHEMA, SET_BY_CHART, write_rules, write_schema
from ravan.version import VERSION

POSTGRES = {"url": "postgresql://ravan@db:5432/ravan"}
HOSTS = ["hq.example"]

BAD = {
    "a misspelt value": {"host": HOSTS},
    "an address with a scheme": {"hosts": ["https://hq.example"]},
    "a misspelt key of coordinator.toml": {"config": {"limits": {"streamz": 1}}},
    "a table that the chart sets": {"config": {"server": {"hosts": HOSTS}}},
    "a table that is none": {"config": {"limit": {}}},
    "a log file in a pod": {"config": {"log": {"file": "ravan.log"}}},
    "a number that is too small": {"config": {"limits": {"site_streams": 1}}},
    "a word for a number": {"config": {"retention": {"versions": "all"}}},
    "a password in an address": {"database": {"url": "postgresql://ravan:pass@db/ravan"}},
    "another database": {"database": {"url": "mysql://ravan@db/ravan"}},
    "no replica": {"coordinator": {"replicas": 0}},
    "more replicas than the certificate names": {"coordinator": {"replicas": 4}},
    "an ingress of HTTP": {"service": {"type": "Ingress"}},
    "a port that takes privilege": {"ports": {"site": 443}},
    "a size without a unit": {"data": {"size": 50}},
    "a secret in place of its name": {"database": {"password": "pass"}},
}

SENTENCES = [
    ({}, "Set `hosts` to the names by which agents reach the coordinator"),
    ({"hosts": []}, "Set `hosts` to the names by which agents reach the coordinator"),
    ({"hosts": HOSTS, "coordinator": {"replicas": 2}}, "need PostgreSQL: set `database.url`"),
    ({"hosts": HOSTS, "worker": {"replicas": 1}}, "need PostgreSQL: set `database.url`"),
    ({"hosts": HOSTS, "worker": {"replicas": 1}, "database": POSTGRES}, "set `data.accessMode` to ReadWriteMany"),
    ({"hosts": HOSTS, "objects": {"bucket": "b", "accessKeyId": "k"}}, "set both `objects.accessKeyId` and"),
    ({"hosts": HOSTS, "service": {"type": "NodePort"}}, "set `ports.enrolment` and `ports.site` to ports of the nodes"),
]


def judge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [Path(sys.executable).parent / "check-jsonschema", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def check(values: Path) -> subprocess.CompletedProcess[str]:
    return judge("--schemafile", SCHEMA, values)


def test_the_schema_is_one() -> None:
    done = judge("--check-metaschema", SCHEMA)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [CHART / "values.yaml", *(HELM / "values" / f"{name}.yaml" for name in VALUES)])
def test_values_that_come_with_the_chart_are_good(path: Path) -> None:
    done = check(path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("values", BAD.values(), ids=BAD)
def test_bad_values_are_refused_by_the_schema(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    assert check(file).returncode == 1


@needs_helm
@pytest.mark.parametrize("values", BAD.values(), ids=BAD)
def test_helm_refuses_the_same_by_the_schema(values: dict[str, Any]) -> None:
    with pytest.raises(RenderingError, match="don't meet the specifications of the schema"):
        render({"hosts": HOSTS} | values)


@needs_helm
@pytest.mark.parametrize(("values", "sentence"), SENTENCES)
def test_what_is_missing_is_said_in_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RenderingError, match=re.escape(sentence)):
        render(values)


def leaves(tree: dict[str, Any], above: str = "") -> set[str]:
    found = set()
    for name, value in tree.items():
        inner = isinstance(value, dict) and value
        found |= leaves(value, f"{above}{name}.") if inner else {f"{above}{name}"}
    return found


def test_the_schema_and_the_defaults_know_the_same_values() -> None:
    properties = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]

    def known(schema: dict[str, Any], above: str = "") -> set[str]:
        return {
            path
            for name, each in schema.items()
            for path in (
                known(each["properties"], f"{above}{name}.")
                if each.get("properties") and name != "config"
                else {f"{above}{name}"}
            )
        }

    # Subcharts of others find `global` beside a chart's own values.
    assert known(properties) - {"global"} == {
        re.sub(r"(resources)\..*", r"\1", path)
        for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")))
    }


def test_copies_in_the_chart_are_up_to_date() -> None:
    copies = {path.name: path.read_text(encoding="utf-8") for path in (CHART / "files" / "rules").iterdir()}
    assert copies == write_rules(), "run `python -m deploy.helm`"
    text = SCHEMA.read_text(encoding="utf-8")
    assert text == write_schema(text), "run `python -m deploy.helm`"


def test_every_table_of_the_configuration_is_for_the_chart_or_for_its_values() -> None:
    properties = json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]["config"]["properties"]
    assert set(properties) | SET_BY_CHART == set(CoordinatorFile.model_fields)
    assert not set(properties) & SET_BY_CHART


def test_the_chart_puts_up_this_release() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == VERSION
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    assert defaults["ports"] == {
        "enrolment": ServerTable.model_fields["enrolment_port"].default,
        "site": ServerTable.model_fields["site_port"].default,
    }


@needs_helm
def test_chart_image_and_compose_file_agree() -> None:
    chart = render(values_of("sqlite"))
    dockerfile = (ROOT / "deploy" / "docker" / "coordinator.Dockerfile").read_text(encoding="utf-8")
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["coordinator"]
    pod = chart.pods()["coordinator"]["spec"]
    [container], [begin] = pod["containers"], pod["initContainers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    [user] = re.findall(r"^USER (\d+):(\d+)$", dockerfile, re.MULTILINE)
    assert (str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["runAsGroup"])) == user
    [exposed] = re.findall(r"^EXPOSE (.+)$", dockerfile, re.MULTILINE)
    assert [int(each) for each in exposed.split()] == [each["containerPort"] for each in container["ports"]]
    [volume] = re.findall(r"^VOLUME (.+)$", dockerfile, re.MULTILINE)
    assert volume == mounts["data"]
    assert f"hq:{volume}" in service["volumes"]
    [folder] = re.findall(r"RAVAN_FOLDER=(\S+)", dockerfile)
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert (variables["RAVAN_FOLDER"], chart.server()["data_dir"]) == (folder, folder)
    assert f"/usr/local/bin/{begin['command'][0]}\n" in dockerfile
    assert begin["image"] == container["image"] == f"{service['image']}:{VERSION}"
    assert {f"{port}:{port}" for port in (chart.server()["enrolment_port"], chart.server()["site_port"])} == set(
        service["ports"]
    )
    assert chart.server()["http_listen"] == service["environment"]["RAVAN_SERVER_HTTP_LISTEN"]
