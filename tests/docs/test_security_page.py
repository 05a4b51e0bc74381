"""`docs/security.md` quotes the numbers that the code has, and the fields that a report really carries."""

from __future__ import annotations

import dataclasses

import pytest
from pages import read_page, read_rows, read_section

from coordinator.config import EnrolmentTable
from coordinator.enrolment import ca, tokens
from coordinator.jobs.jobfile import SecureAggregationTable
from edge_agent.config import PolicyTable
from ravan.manifest.assignment import BUNDLE_FLOOR, MAX_GROUP, MAX_MEMBERS
from ravan.manifest.liveness import Heartbeat
from ravan.manifest.profile import HardwareProfile, JobProfile

PAGE = read_page("security.md")
NUMBERS = {
    cells[0].strip(): cells[1].strip()
    for line in read_section(PAGE, "## Numbers").splitlines()
    if line.startswith("| ") and len(cells := line.strip("|").split("|")) == 2
}


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("least `bundle_threshold`", str(BUNDLE_FLOOR)),
        ("default `bundle_threshold`", str(SecureAggregationTable().bundle_threshold)),
        ("sites in a round", f"{BUNDLE_FLOOR} to {MAX_MEMBERS}"),
        ("sites that mask with each other", f"at most {MAX_GROUP}"),
        (
            "life of certificates",
            f"authority {ca.AUTHORITY_LIFE.days} days, server {ca.SERVER_LIFE.days}, "
            f"operators {ca.OPERATOR_LIFE.days}, sites {EnrolmentTable().certificate_days}",
        ),
        (
            "life of a token",
            f"{tokens.DEFAULT_LIFE_S // 3600} hours, at most {tokens.LONGEST_LIFE_S // 86_400} days",
        ),
    ],
)
def test_numbers_are_those_of_the_code(what: str, value: str) -> None:
    assert NUMBERS[what] == value


def test_every_key_of_a_sites_policy_is_explained() -> None:
    rows = read_rows(read_section(PAGE, "## What a plant can set"))
    assert sorted(row[0] for row in rows) == sorted(PolicyTable.model_fields)
    assert all(len(row) == 2 and row[1].endswith(".") for row in rows)


def test_what_travels_in_the_clear_is_what_the_page_says() -> None:
    # A field that is added here has to be named under "In the clear" before it is added there.
    assert {field.name for field in dataclasses.fields(HardwareProfile)} == {
        "cores",
        "ram_total_bytes",
        "ram_limit_bytes",
        "ram_limit_source",
        "disk_free_bytes",
        "aes_instructions",
        "cpu_capability",
        "agent_version",
    }
    assert {field.name for field in dataclasses.fields(JobProfile)} == {
        "plan_digest",
        "ram_loaded_bytes",
        "ram_floor_bytes",
        "ram_per_matrix_bytes",
        "step_floor_s",
        "step_per_matrix_s",
        "ram_reached_bytes",
        "step_reached_s",
    }
    assert {field.name for field in dataclasses.fields(Heartbeat)} == {
        "process_id",
        "activity",
        "round_number",
        "done",
        "total",
        "rss_bytes",
        "peak_rss_bytes",
        "extra_peak_bytes",
        "step_cpu_s",
        "site_time",
    }
