"""`docs/protocol.md` shows messages, states, labels and constants as the machines and the code have them."""

from __future__ import annotations

import math

import pytest
from pages import read_codes, read_page, read_rows, read_section
from protocol_diagram import (
    AGENT_STATES,
    coordinator_states,
    draw_round,
    inputs_of,
    list_agent_steps,
    list_coordinator_steps,
    record_steps,
    subclasses_of,
)
from secagg_driver import DENSE, head, make_assignment

from ravan.codec.documents import MODEL_LABEL
from ravan.identity.endorsement import LABEL as ENDORSEMENT_LABEL
from ravan.manifest.assignment import (
    BUNDLE_FLOOR,
    MAX_GROUP,
    MAX_MEMBERS,
    MAX_TILES,
    RING_WIDTHS,
    BlockSpec,
    Suite,
    Weighting,
)
from ravan.secagg import messages, rotation
from ravan.secagg.agent_states import AgentState
from ravan.secagg.bundles import lay_out, plan_bundles, shamir_threshold
from ravan.secagg.cells import CELL_ROUNDS
from ravan.secagg.coordinator_states import AbortReason, CoordinatorState
from ravan.secagg.keys import KEY_BYTES, ROOT_BYTES
from ravan.secagg.packing import PAGE_ELEMENTS, packed_bytes
from ravan.secagg.rotation import coordinate_bound
from ravan.secagg.sealing import sealed_size
from ravan.secagg.shamir import PRIME, SECRET_BYTES, SHARE_BYTES
from ravan.secagg.statistics import limb_bits, statistics_limbs
from ravan.secagg.transcript import Label
from ravan.version import PROTOCOL_VERSION

PAGE = read_page("protocol.md")
CONSTANTS = {row[0]: row[1] for row in read_rows(read_section(PAGE, "## Constants"))}
STEPS = record_steps()
VALUES = [
    ("PROTOCOL_VERSION", str(PROTOCOL_VERSION)),
    ("BUNDLE_FLOOR", str(BUNDLE_FLOOR)),
    ("MAX_GROUP", str(MAX_GROUP)),
    ("MAX_MEMBERS", str(MAX_MEMBERS)),
    ("MAX_TILES", str(MAX_TILES)),
    ("RING_WIDTHS", ", ".join(map(str, RING_WIDTHS))),
    ("PAGE_ELEMENTS", str(PAGE_ELEMENTS)),
    ("CELL_ROUNDS", str(CELL_ROUNDS)),
    ("PRIME", f"2^256 + {PRIME - (1 << 256)}"),
    ("SECRET_BYTES", str(SECRET_BYTES)),
    ("SHARE_BYTES", str(SHARE_BYTES)),
    ("ROOT_BYTES", str(ROOT_BYTES)),
    ("KEY_BYTES", ", ".join(str(KEY_BYTES[suite]) for suite in Suite)),
    ("limb_bits", ", ".join(str(limb_bits(bits)) for bits in RING_WIDTHS)),
    ("statistics_limbs", ", ".join(str(statistics_limbs(bits)) for bits in RING_WIDTHS)),
    ("TAIL", f"10^{math.log10(rotation.TAIL):.0f}"),
]


def generated(heading: str) -> str:
    """The table below a heading of the page."""
    lines = read_section(PAGE, heading).splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith("|"))


def test_messages_are_drawn_from_a_round_of_the_machines() -> None:
    assert PAGE.partition("```mermaid\n")[2].partition("```")[0] == draw_round()


def test_drawing_shows_the_way_through_a_round() -> None:
    drawn = draw_round()
    ways = ("C->>A: Assignment", "A->>C: KeyAdvertisement", "C->>A: RevealRequest", "A->>C: RevealedShares")
    places = [drawn.index(way) for way in ways]
    assert places == sorted(places)
    assert "A->>C: Assignment" not in drawn


def test_states_of_an_agent_are_those_of_its_machine() -> None:
    assert generated("### The agent's states") == list_agent_steps()
    assert set(AGENT_STATES) == subclasses_of(AgentState)


def test_states_of_the_coordinator_are_those_of_its_machine() -> None:
    assert generated("### The coordinator's states") == list_coordinator_steps()


def test_recorded_rounds_show_exactly_what_states_take() -> None:
    agents = {(state.name, name) for state in AGENT_STATES for name in inputs_of(state, AgentState)}
    coordinators = {
        (str(state.phase), name) for state in coordinator_states() for name in inputs_of(state, CoordinatorState)
    }
    assert {(step.state, step.takes) for step in STEPS} == agents | coordinators
    assert ("TRAINING", "reveal") not in agents


def test_every_message_is_explained_with_its_fields() -> None:
    rows = {row[0]: read_codes(row[2]) for row in read_rows(read_section(PAGE, "## Messages"))}
    drawn = {line.rpartition(": ")[2] for line in draw_round().splitlines() if ">>" in line}
    assert rows.keys() == drawn - {"Assignment", "Roster"}
    for name, fields in rows.items():
        assert fields == set(getattr(messages, name).__dataclass_fields__), name


def test_every_label_is_listed_with_its_bytes() -> None:
    rows = {row[0]: row[1].strip('`"') for row in read_rows(read_section(PAGE, "## Labels"))}
    outside = {
        "MODEL_LABEL": MODEL_LABEL,
        "ENDORSEMENT_LABEL": ENDORSEMENT_LABEL,
        "ROTATION_LABEL": rotation._LABEL,
    }
    assert rows == {label.name: label.value.decode() for label in Label} | {k: v.decode() for k, v in outside.items()}


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_constants_are_those_of_the_code(name: str, value: str) -> None:
    assert CONSTANTS[name] == value


def test_no_constant_is_listed_without_a_test() -> None:
    assert CONSTANTS.keys() == {name for name, _ in VALUES}


def test_a_vector_is_laid_out_as_the_page_says() -> None:
    weighting = Weighting(limit=9, unit=1, cell_minimum=3, cell_threshold=3)
    assignment = make_assignment([(0,)] * 6, weighting=weighting, dense=6, lengths=(9,))
    common, first = (lay_out(assignment, bundle) for bundle in plan_bundles(assignment, range(6)))
    limbs = statistics_limbs(24)
    assert (common.canaries, common.weight, common.statistics) == ((0, 9 + limbs), slice(1, 2), slice(2, 2 + limbs))
    assert [(s.block_id, s.offset, s.flag) for s in common.slots] == [(DENSE, 2 + limbs, 8 + limbs)]
    assert [(s.block_id, s.offset, s.flag) for s in first.slots] == [(head(0), 2, 11)]
    assert (first.canaries, first.length) == ((0, 12), 16)


def test_sealed_shares_have_the_stated_size() -> None:
    assert f"a ciphertext has 17 + {SHARE_BYTES} x (1 + bundles) bytes" in " ".join(PAGE.split())
    assert sealed_size(3) == 17 + SHARE_BYTES * 3


def test_packed_elements_have_the_stated_sizes() -> None:
    rows = read_rows(read_section(PAGE, "### Packing"))
    assert [(int(row[0]), int(row[1])) for row in rows] == [(bits, packed_bytes(bits)) for bits in RING_WIDTHS]


def test_quantum_limits_are_those_that_a_group_of_128_leaves() -> None:
    rows = read_rows(read_section(PAGE, "### Fixed point"))
    limits = {bits: make_assignment([(0,)] * 128, ring_bits=bits).quantum_limit for bits in RING_WIDTHS}
    assert {int(row[0]): int(row[1].replace(",", "")) for row in rows} == limits
    assert all(128 * limit < 1 << bits - 1 for bits, limit in limits.items())


def test_rotation_gains_the_stated_bits() -> None:
    rows = read_rows(read_section(PAGE, "### Rotation"))
    assignment = make_assignment([(0,)] * 3, rotate=True)
    specs = [BlockSpec(block_id=head(0), length=side * side, clip=1.0) for side in (16, 32, 64)]
    gains = [f"{-math.log2(coordinate_bound(assignment, spec)):.1f}" for spec in specs]
    assert [(row[0], row[1]) for row in rows] == list(zip(("16", "32", "64"), gains, strict=True))


@pytest.mark.parametrize(("finishers", "losses"), [(3, 0), (4, 1), (6, 1), (7, 2), (9, 2), (12, 3), (100, 33)])
def test_losses_allowed_after_the_roster_are_those_of_the_page(finishers: int, losses: int) -> None:
    rows = read_rows(read_section(PAGE, "## Thresholds"))
    table = {int(row[0]): (int(row[1]), int(row[2])) for row in rows}
    assert len(table) == 7
    assert table[finishers] == (shamir_threshold(finishers), losses)
    assert finishers - shamir_threshold(finishers) == losses


def test_shamir_threshold_is_the_stated_formula() -> None:
    assert "t = floor(2n/3) + 1" in read_section(PAGE, "## Thresholds")
    assert [shamir_threshold(n) for n in range(3, 129)] == [math.floor(2 * n / 3) + 1 for n in range(3, 129)]


def test_every_reason_of_an_abort_is_in_the_table_of_failures() -> None:
    assert set(AbortReason) <= read_codes(read_section(PAGE, "## What goes wrong, and what comes of it"))
