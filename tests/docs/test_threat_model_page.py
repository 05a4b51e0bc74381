"""`docs/threat-model.md` has a row for each attack that a check answers, with the code; its numbers hold."""

from __future__ import annotations

import re

import pytest
from pages import read_codes, read_page, read_rows, read_section

from mutation.checks import AGENTS, COORDINATOR, Check
from ravan.errors import ErrorReason
from ravan.manifest.assignment import MAX_GROUP
from ravan.manifest.phases import DropReason, RoundOutcome
from ravan.rpc.admission import CallLimits
from ravan.secagg.bundles import shamir_threshold

PAGE = read_page("threat-model.md")
ATTACKS = read_section(PAGE, "## Attacks")
BY_COORDINATOR = "### By the coordinator"
BY_AGENT = "### By an agent"


def rows_below(heading: str) -> dict[str, list[str]]:
    lines = [line for line in read_section(ATTACKS, heading).splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    return {row[0]: row[1:] for row in cells}


ROWS = {**rows_below(BY_COORDINATOR), **rows_below(BY_AGENT)}
ROW_OF = {
    "wrong signature": "wrong signature, length or bundle",
    "wrong length": "wrong signature, length or bundle",
    "wrong bundle": "wrong signature, length or bundle",
    "out of range": "out of range, NaN",
    "NaN": "out of range, NaN",
    "wrong shares": "invalid shares",
    "a flood of repeats": "flood",
    "a flood of messages after being dropped": "flood",
    "a flood of calls": "flood",
    "a flood of calls of one site": "flood",
}
"""Where one row answers several."""
ATTACKS_OF_THE_REFERENCE = {
    "equivocation about survivors",
    "both lists",
    "isolation of one site",
    "small cohort",
    "invented sites",
    "different models to different agents",
    "planted layers, trap weights",
    "membership from the sum",
    "differencing over rounds",
    "mask or key reuse",
    "key substitution",
    "replayed shares",
    "replayed round",
    "late upload",
    "metadata side channel",
    "invalid shares",
    "masks that do not cancel",
}
"""By the names that the rows have here."""


def attack_of(check: Check) -> str:
    return check.attack.partition(":")[0]


def test_every_row_has_all_cells() -> None:
    assert all(len(cells) == 4 and cells[0] and cells[1] and cells[3] for cells in ROWS.values())
    assert len(ROWS) == len(rows_below(BY_COORDINATOR)) + len(rows_below(BY_AGENT))


@pytest.mark.parametrize("check", COORDINATOR, ids=lambda check: check.attack)
def test_a_check_against_the_coordinator_is_named_in_its_row(check: Check) -> None:
    assert check.file in read_codes(ROWS[attack_of(check)][2])


@pytest.mark.parametrize("check", AGENTS, ids=lambda check: check.attack)
def test_a_check_of_what_agents_send_is_named_in_its_row(check: Check) -> None:
    assert check.file in read_codes(ROWS[ROW_OF.get(attack_of(check), attack_of(check))][2])


def test_attacks_known_from_elsewhere_have_a_row() -> None:
    assert ROWS.keys() >= ATTACKS_OF_THE_REFERENCE


def test_refusals_show_by_reasons_that_there_are() -> None:
    shown = " ".join(row[3] for row in ROWS.values())
    upper = {code for code in read_codes(shown) if code.isupper()}
    drops = set(re.findall(r"[Dd]rops? (?:with )?`(\w+)`", shown)) | set(re.findall(r"or `(\w+)`", shown)) - upper
    assert upper <= set(ErrorReason)
    assert drops <= set(DropReason)
    assert set(re.findall(r"outcome `(\w+)`", shown)) <= set(RoundOutcome)
    assert {"protocol", "refused", "restarted", "data"} <= drops


def test_colluders_withstood_on_a_roster_of_any_size() -> None:
    table = {int(row[0]): int(row[1]) for row in read_rows(read_section(PAGE, "### Against an active coordinator"))}
    assert list(table) == [3, 5, 8, 16, 32]
    for least in range(3, 100):
        # Both secrets take 2t shares; n members give one kind each, colluders both.
        needed = min(2 * shamir_threshold(n) - n for n in range(least + 1, MAX_GROUP + 1))
        assert needed == -(-least // 3) + 1
        assert table.get(least, needed - 1) == needed - 1


def test_cap_on_calls_is_that_of_the_code() -> None:
    limits = CallLimits()
    assert f"{limits.site_calls_per_s:.0f} calls a second" in ROWS["flood"][1]
    assert f"{limits.site_calls} calls and {limits.site_streams} streams of a site" in ROWS["flood"][1]
    assert f"{limits.calls} in all" in ROWS["flood"][1]
