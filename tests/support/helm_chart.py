"""The chart as Helm's own engine renders it, in a process of its own: the engine brings the Go runtime along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HELM = ROOT / "deploy" / "helm"
CHART = HELM / "ravan"
RELEASE, NAMESPACE = "hq", "plants"
VALUES = sorted(path.stem for path in (HELM / "values").glob("*.yaml"))
"""Examples of values that come with the chart."""

needs_helm = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="helm-python-sdk has its engine for x86-64 alone (Linux)"
)


class RenderingError(Exception):
    """Helm refuses the values, in its own words."""


@dataclass(frozen=True)
class Rendered:
    manifests: tuple[dict[str, Any], ...]
    notes: str

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [each for each in self.manifests if each["kind"] == kind]

    def only(self, kind: str) -> dict[str, Any]:
        [found] = self.all(kind)
        return found

    def pods(self) -> dict[str, dict[str, Any]]:
        """Template of the pods by component."""
        owners = (*self.all("StatefulSet"), *self.all("Deployment"))
        return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"] for each in owners}

    def containers(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each container, also those that only begin, with its pod's specification."""
        for pod in self.pods().values():
            for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
                yield pod["spec"], container

    def configuration(self) -> str:
        text: str = self.only("ConfigMap")["data"]["coordinator.toml"]
        return text

    def server(self) -> dict[str, Any]:
        table: dict[str, Any] = tomllib.loads(self.configuration())["server"]
        return table


def values_of(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((HELM / "values" / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


@cache
def rendered(name: str) -> Rendered:
    """The chart with the example values of this name."""
    return render(values_of(name))


def render(values: Mapping[str, Any], chart: Path = CHART) -> Rendered:
    """Raises RenderingError."""
    answer = _ask({"do": "render", "chart": str(chart), "values": values})
    notes = answer.pop("ravan/templates/NOTES.txt")
    manifests = [each for text in answer.values() for each in yaml.safe_load_all(text) if each is not None]
    return Rendered(tuple(manifests), notes)


def lint(values: Mapping[str, Any]) -> list[str]:
    """What `helm lint --strict` finds wrong."""
    report = _ask({"do": "lint", "chart": str(CHART), "values": values})
    hints = 1
    return [f"{each['path']}: {each['error']}" for each in report["messages"] if each["severity"] > hints]


def _ask(question: Mapping[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__], input=json.dumps(question), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"Helm's engine does not run; is helm-python-sdk installed?\n{done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    if "refused" in answer:
        raise RenderingError(answer["refused"])
    return answer


def _answer(question: Mapping[str, Any]) -> Mapping[str, Any]:
    import helm_python

    try:
        if question["do"] == "lint":
            report: Mapping[str, Any] = helm_python.lint(question["chart"], question["values"], strict=True)
            return report
        with helm_python.Chart.load(question["chart"]) as chart:
            manifests: Mapping[str, Any] = chart.render(question["values"], name=RELEASE, namespace=NAMESPACE)
            return manifests
    except helm_python.HelmError as error:
        return {"refused": str(error)}


if __name__ == "__main__":
    print(json.dumps(_answer(json.load(sys.stdin))))
