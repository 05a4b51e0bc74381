"""The demo's data: counts against the published table, and a split without leaks."""

import csv
from collections import Counter
from pathlib import Path

from deploy.demo.work_orders import LABELS, installed_table, label_of, prepare_files, read_work_orders


def test_counts_per_site_and_class_are_those_of_the_published_table() -> None:
    counts = Counter((order.site, order.subsystem) for order in read_work_orders(installed_table()))
    assert sum(counts.values()) == 4887
    assert [counts[site, "aircon"] for site in "abcde"] == [20, 46, 45, 84, 45]
    assert [counts[site, "lube"] for site in "abcde"] == [9, 52, 133, 287, 132]
    assert {label for _, label in counts} == set(LABELS)
    assert len(LABELS) == 9


def test_a_whole_machine_and_an_unknown_code_have_no_class() -> None:
    assert label_of("Excavator") == ""
    assert label_of("zzz") == ""
    assert label_of("air  conditioner") == "aircon"


def test_no_text_stands_on_both_sides_of_the_split(tmp_path: Path) -> None:
    counts = prepare_files(tmp_path)
    texts = {}
    for name in counts:
        with (tmp_path / name).open(newline="") as file:
            texts[name] = {row["text"].lower() for row in csv.DictReader(file)}
    held_out = texts.pop("held-out.csv")
    assert not held_out & set().union(*texts.values())
    assert sum(counts.values()) == 4887
    assert 900 < counts["held-out.csv"] < 1150
