"""A real Prometheus server in a folder of its own, asked over its HTTP interface."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_rules import PROMETHEUS

from simulation.headquarters import free_ports

EVERY: Final = "1s"
"""How often it scrapes and evaluates: tests last seconds."""

PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class PrometheusServer:
    """One that runs."""

    port: int
    process: subprocess.Popen[bytes]

    def query(self, expression: str) -> list[Mapping[str, Any]]:
        """Return the series of an instant query, each with `metric` and `value`."""
        found = self._ask("query", query=expression)["result"]
        assert isinstance(found, list)
        return found

    def value(self, expression: str) -> float | None:
        """Return the value of a query that has one series; None where it has none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression} has {len(found)} series"
        return float(found[0]["value"][1]) if found else None

    def figures(self, expression: str) -> list[float]:
        """Return every value that a query had in the last minutes and that is a number."""
        now = time.time()
        found = self._ask("query_range", query=expression, start=str(now - 180), end=str(now), step=EVERY)["result"]
        values = (float(value) for series in found for _, value in series["values"])
        return [value for value in values if not math.isnan(value)]

    def firing(self) -> dict[str, Mapping[str, Any]]:
        """Return the alerts that fire, by name."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert for alert in alerts if alert["state"] == "firing"}

    def evaluations(self) -> int:
        """Return how often the rules were evaluated, counted by the group that was least often."""
        groups = self.query("prometheus_rule_group_iterations_total")
        return min((int(group["value"][1]) for group in groups), default=0)

    def await_value(self, expression: str, wanted: float) -> None:
        """Wait until a query has this value."""
        self.await_so(lambda: self.value(expression) == wanted, lambda: f"{expression}: {self.value(expression)}")

    def await_firing(self, *names: str) -> dict[str, Mapping[str, Any]]:
        """Wait until these alerts fire, and look at several evaluations more; return all that fire then."""
        self.await_so(lambda: set(names) <= set(self.firing()), lambda: f"{names}; {sorted(self.firing())} fire")
        self.await_evaluations(5)
        return self.firing()

    def await_evaluations(self, count: int) -> None:
        """Wait until the rules were evaluated so many times more."""
        end = self.evaluations() + count
        self.await_so(lambda: self.evaluations() >= end, lambda: f"{count} evaluations")

    def await_so(self, is_so: Callable[[], bool], what: Callable[[], str]) -> None:
        """Wait until something is so; `what` says what was waited for in vain."""
        end = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < end, f"waited {PATIENCE_S} s in vain for {what()}"
            assert self.process.poll() is None
            time.sleep(0.2)

    def _ask(self, what: str, **arguments: str) -> dict[str, Any]:
        data = self._data(what, **arguments)
        assert isinstance(data, dict)
        return data

    def _ask_list(self, what: str, **arguments: str) -> list[Mapping[str, Any]]:
        data = self._data(what, **arguments)
        assert isinstance(data, list)
        return data

    def _data(self, what: str, **arguments: str) -> object:
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            read = json.load(answer)
        assert read["status"] == "success"
        data: object = read["data"]
        return data

    def exemplars(self, metric: str) -> set[str]:
        """Return the traces that a histogram's buckets led to in the last minutes."""
        now = time.time()
        found = self._ask_list("query_exemplars", query=metric, start=str(now - 600), end=str(now))
        return {each["labels"]["trace_id"] for series in found for each in series["exemplars"]}

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def prometheus_server(folder: Path, target: str, *, credentials: Path | None = None) -> Iterator[PrometheusServer]:
    """Run a server with the configuration that we ship, but faster: it scrapes `target` and itself each second.

    With `credentials`, a folder that `operator create` has written, as the comment in that configuration says.
    """
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus (Debian package prometheus) is not installed")
    (port,) = free_ports(1)
    _write_configuration(folder, target, port, credentials)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
    try:
        server = PrometheusServer(port, process)
        server.await_so(server.is_ready, lambda: (folder / "log").read_text(encoding="utf-8"))
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _write_configuration(folder: Path, target: str, own_port: int, credentials: Path | None) -> None:
    shutil.copytree(PROMETHEUS / "rules", folder / "rules")
    for path in (folder / "rules").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"^( +for:) \w+$", r"\1 2s", text, flags=re.MULTILINE), encoding="utf-8")
    text = (PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8")
    if credentials is not None:
        text = re.sub(r"^( +)#mutual ", r"\1", text, flags=re.MULTILINE).replace(
            "/etc/prometheus/ravan", str(credentials)
        )
    configuration = yaml.safe_load(text)
    configuration["global"] = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    (ravan,) = configuration["scrape_configs"]
    ravan["static_configs"] = [{"targets": [target]}]
    itself = {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{own_port}"]}]}
    configuration["scrape_configs"].append(itself)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
