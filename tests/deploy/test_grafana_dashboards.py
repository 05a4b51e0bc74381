"""The dashboards are what the code writes, each query is sound, and Grafana is told where they lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_rules import PROMETHEUS, known_names, names_in, needs_promtool, read_rules, read_yaml, run_promtool

from deploy.grafana.boards import BOARDS
from deploy.grafana.panels import Board

GRAFANA = PROMETHEUS.parent / "grafana"
QUERIES = [query.expression for board in BOARDS for panel in board.panels for query in panel.queries]


def written(board: Board) -> str:
    return (GRAFANA / "dashboards" / f"{board.uid}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
def test_the_committed_dashboard_is_what_the_code_writes(board: Board) -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="grafana-foundation-sdk comes with `make env-dev`")
    from deploy.grafana.drawing import draw

    assert written(board) == draw(board), "run `python -m deploy.grafana`"


@pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
def test_the_committed_dashboard_asks_what_the_board_asks(board: Board) -> None:
    found: dict[str, Any] = json.loads(written(board))
    assert (found["uid"], found["title"]) == (board.uid, board.title)
    assert [(panel["title"], panel["description"]) for panel in found["panels"]] == [
        (panel.title, panel.question) for panel in board.panels
    ]
    asked = [[target["expr"] for target in panel["targets"]] for panel in found["panels"]]
    assert asked == [[query.expression for query in panel.queries] for panel in board.panels]
    sources = {panel["datasource"]["uid"] for panel in found["panels"]}
    (variable,) = found["templating"]["list"]
    assert sources == {f"${{{variable['name']}}}"}
    assert (variable["type"], variable["query"]) == ("datasource", "prometheus")


def test_there_is_no_other_dashboard() -> None:
    assert {path.stem for path in (GRAFANA / "dashboards").iterdir()} == {board.uid for board in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=[board.uid for board in BOARDS])
def test_panels_do_not_cover_each_other(board: Board) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(written(board))["panels"]:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert own
        assert not own & cells
        assert max(x for x, _ in own) < 24
        cells |= own


@needs_promtool
def test_each_query_parses(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = run_promtool("check", "rules", path)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"{len(QUERIES)} rules found" in done.stdout


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_asks_for_metrics_of_the_catalogue(query: str) -> None:
    asked = names_in(query)
    assert asked
    assert asked <= known_names(read_rules())


def test_provisioning_names_prometheus_as_we_ship_it() -> None:
    (source,) = read_yaml(GRAFANA / "provisioning" / "datasources" / "ravan.yml")["datasources"]
    assert source["type"] == "prometheus"
    interval = read_yaml(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = read_yaml(GRAFANA / "provisioning" / "dashboards" / "ravan.yml")["providers"]
    page = (PROMETHEUS.parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    assert f"{provider['options']['path']}/" in page
