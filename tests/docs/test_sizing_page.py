"""`docs/sizing.md` says of each figure where it comes from, and its sums come out."""

from __future__ import annotations

import re

import pytest
from pages import ROOT, read_page, read_section

from coordinator.config import RetentionTable
from coordinator.jobs.jobfile import SecureAggregationTable
from edge_agent.config import HostTable

PAGE = read_page("sizing.md")
TABLES = re.findall(r"(?:^\| .*\n)(?:^\|[-|]+\n)((?:^\| .*\n)+)", PAGE, re.MULTILINE)
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for table in TABLES for line in table.splitlines()]
SOURCE = re.compile(r"decision \[?\d{4}|`make [a-z-]+|`ravan|`coordinator\.|network\.md|^\d+ x ")
UNITS = {"s": 1, "minutes": 60, "hours": 3600}


def seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * UNITS[unit]


@pytest.mark.parametrize("row", ROWS, ids=[" ".join(row)[:50] for row in ROWS])
def test_every_figure_has_a_source(row: list[str]) -> None:
    assert SOURCE.search(row[-1])


def test_targets_that_measure_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", PAGE))
    assert "bench-size" in named
    assert named <= targets


def test_hours_of_a_job_follow_from_steps_and_rounds() -> None:
    said = re.search(r"With (\d+) rounds of (\d+) steps,\n?.*?and (\d+) s beside", PAGE, re.DOTALL)
    assert said is not None
    rounds, steps, beside = map(int, said.groups())
    jobs = [row for row in ROWS if re.match(r"\d+ x ", row[-1])]
    assert len(jobs) == 4
    for row in jobs:
        count, step = re.fullmatch(r"(\d+) x ([\d.]+) s", row[-1]).groups()  # type: ignore[union-attr]
        a_round = int(count) * float(step) + beside
        assert int(count) == steps
        assert seconds(row[1]) == pytest.approx(a_round, rel=0.02)
        assert seconds(row[2]) == pytest.approx(a_round * rounds, rel=0.03)


def test_defaults_are_those_of_the_code() -> None:
    assert f"`[retention] versions` ({RetentionTable().versions})" in PAGE
    assert f"`ring_bits = {SecureAggregationTable().ring_bits}`" in PAGE
    assert f"Leave {HostTable().keep_free_mb} MB to other programs" in PAGE


def test_memory_of_a_pc_is_listed_by_model_and_part() -> None:
    section = read_section(PAGE, "## Memory of a PC")
    assert all(model in section for model in ("MiniLM", "BERT-base", "1.2 billion", "7 billion", "ViT-S", "PatchTST"))
