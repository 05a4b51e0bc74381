"""What an assignment and a roster must say before a site lends its secrets to the round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from ravan.ids import Digest
from ravan.manifest.assignment import (
    BUNDLE_FLOOR,
    MAX_GROUP,
    MAX_MEMBERS,
    MAX_TILES,
    RING_WIDTHS,
    Assignment,
    Weighting,
)
from ravan.manifest.roster import Roster, RosterEntry
from ravan.secagg.bundles import plan_bundles, shamir_threshold
from ravan.secagg.cells import draw_cells
from ravan.secagg.keys import is_usable, verify
from ravan.secagg.refusals import below_threshold, violation
from ravan.secagg.rotation import coordinate_bound
from ravan.secagg.statistics import limb_bits
from ravan.secagg.transcript import DIGEST_BYTES, advertise_bytes


def check_assignment(assignment: Assignment, policy_floor: int = BUNDLE_FLOOR) -> None:
    """Raise ProtocolError unless secure aggregation can hold what the assignment promises.

    `policy_floor` is the site's own least cohort of a released bundle; it can only raise t_B.
    """
    _check_members(assignment)
    _check_ring(assignment)
    _check_blocks(assignment)
    floor = max(policy_floor, BUNDLE_FLOOR)
    if assignment.bundle_threshold < floor:
        raise below_threshold(
            f"The round would release sums of {assignment.bundle_threshold} sites; this site asks for {floor} or more."
        )
    if len(assignment.members) > MAX_GROUP and assignment.bundle_threshold > MAX_GROUP // 4:
        raise violation(
            f"Sums of {assignment.bundle_threshold} sites cannot be promised in groups of at most {MAX_GROUP};"
            f" {MAX_GROUP // 4} is the most in a round of more."
        )
    if assignment.weighting is not None:
        _check_weighting(assignment, assignment.weighting, floor)


def check_roster(assignment: Assignment, assignment_digest: Digest, roster: Roster, own: RosterEntry) -> None:
    """Raise ProtocolError unless the roster is the one that follows from its finishers.

    Checks every signature, that no key serves twice, the member's `own` entry, the threshold and the bundles. Whether
    keys are usable shows when the member agrees with them, which it does at once.
    """
    if roster.assignment_digest != assignment_digest:
        raise violation("The roster belongs to another assignment.")
    finishers = [entry.index for entry in roster.entries]
    if not is_ascending(finishers) or not set(finishers) <= set(range(len(assignment.members))):
        raise violation("The roster lists members twice, out of order, or that were not assigned.")
    if len(finishers) > MAX_GROUP:
        raise violation(f"A roster has at most {MAX_GROUP} members, not {len(finishers)}.")
    if own not in roster.entries:
        raise violation("The roster does not hold this site's own keys.")
    if len(finishers) < assignment.bundle_threshold:
        raise below_threshold(f"Only {len(finishers)} sites are in the roster; {assignment.bundle_threshold} must be.")
    if roster.threshold != shamir_threshold(len(finishers)) or roster.bundles != plan_bundles(assignment, finishers):
        raise violation("Threshold or bundles of the roster do not follow from its members.")
    _check_distinct_keys(roster.entries)
    for entry in roster.entries:
        _check_signed_keys(assignment, assignment_digest, entry)


def check_entry(assignment: Assignment, assignment_digest: Digest, entry: RosterEntry) -> None:
    """Raise ProtocolError unless a member's round keys are usable and carry its identity's signature."""
    _check_signed_keys(assignment, assignment_digest, entry)
    # Every other finisher would stumble over such a key, and leave; so its owner is found out when it advertises.
    if not (is_usable(entry.mask_key) and is_usable(entry.channel_key)):
        raise violation(f"A round key of member {entry.index} is no usable X25519 key.")


def is_ascending(indices: Sequence[int]) -> bool:
    """Tell whether the indices rise strictly, and so name nobody twice."""
    return all(a < b for a, b in pairwise(indices))


def _check_signed_keys(assignment: Assignment, assignment_digest: Digest, entry: RosterEntry) -> None:
    if len(entry.mask_key) != DIGEST_BYTES or len(entry.channel_key) != DIGEST_BYTES:
        raise violation(f"A round key of member {entry.index} does not have {DIGEST_BYTES} bytes.")
    message = advertise_bytes(assignment_digest, entry.index, entry.mask_key, entry.channel_key)
    identity = assignment.members[entry.index].identity_key
    verify(identity, entry.signature, message, f"member {entry.index}'s round keys")


def _check_members(assignment: Assignment) -> None:
    members = assignment.members
    if not BUNDLE_FLOOR <= len(members) <= MAX_MEMBERS:
        raise violation(f"A round has {BUNDLE_FLOOR} to {MAX_MEMBERS} members, not {len(members)}.")
    if [member.index for member in members] != list(range(len(members))):
        raise violation("The members of the assignment are not numbered from 0 without gaps.")
    if len({member.identity_key for member in members}) != len(members):
        raise violation("Two members of the assignment have the same identity key.")
    tiles = {tile.tile_id for tile in assignment.tiles}
    listed = [tiles_of for member in members for tiles_of in (member.tiles, member.scored_tiles)]
    if any(not is_ascending(mine) or not tiles.issuperset(mine) for mine in listed):
        raise violation("A member of the assignment trains or scores a tile that is unknown or listed twice.")


def _check_ring(assignment: Assignment) -> None:
    """Raise unless no sum over a whole group of honest members can wrap: nothing is left to be checked at run time.

    Blocks cannot: quantum_limit is made for that. Canaries and clip flags count members; limbs, of which a score is
    one, and weights have bounds.
    """
    bits, members = assignment.ring_bits, assignment.group_size
    if bits not in RING_WIDTHS:
        raise violation(f"The round asks for a ring of {bits} bits; there are {', '.join(map(str, RING_WIDTHS))}.")
    weight = 1 if assignment.weighting is None else assignment.weighting.limit
    if members * max((1 << limb_bits(bits)) - 1, weight) >= 1 << bits:
        raise violation(f"Statistics, scores or weights of {members} members do not fit a ring of {bits} bits.")


def _check_weighting(assignment: Assignment, weighting: Weighting, floor: int) -> None:
    if min(weighting.limit, weighting.unit) < 1:
        raise violation("Weights of the round have no positive limit or unit.")
    if weighting.cell_threshold < floor:
        raise below_threshold(
            f"The round would release cells of {weighting.cell_threshold} sites; this site asks for {floor} or more."
        )
    if not weighting.cell_threshold <= weighting.cell_minimum <= MAX_GROUP // 4:
        raise violation(
            f"A cell has at least as many members as must survive in it, {weighting.cell_threshold} here,"
            f" and may be asked for {MAX_GROUP // 4} at the most, not {weighting.cell_minimum}."
        )
    if any(len(cell) < weighting.cell_minimum for cell in draw_cells(assignment)):
        raise violation(f"A class of members is too small for a cell of {weighting.cell_minimum}.")


def _check_blocks(assignment: Assignment) -> None:
    blocks = {spec.block_id for spec in assignment.blocks}
    tiled = [block for tile in assignment.tiles for block in tile.blocks]
    tile_ids = {tile.tile_id for tile in assignment.tiles}
    if len(blocks) != len(assignment.blocks) or len(tile_ids) != len(assignment.tiles):
        raise violation("A block or a tile of the assignment is listed twice.")
    if len(set(tiled)) != len(tiled) or not blocks.issuperset(tiled) or len(tile_ids) > MAX_TILES:
        raise violation("The tiles of the assignment do not divide its blocks, or are too many.")
    if any(spec.length < 1 or not (math.isfinite(spec.clip) and spec.clip > 0) for spec in assignment.blocks):
        raise violation("A block of the assignment is empty or has no positive clip bound.")
    bounds = [coordinate_bound(assignment, spec) for spec in assignment.blocks]
    if any(not (bound > 0 and math.isfinite(assignment.quantum_limit / bound)) for bound in bounds):
        raise violation("A clip bound of the assignment is too small to be quantised.")


def _check_distinct_keys(entries: Sequence[RosterEntry]) -> None:
    keys = {key for entry in entries for key in (entry.mask_key, entry.channel_key)}
    if len(keys) != 2 * len(entries):
        raise violation("A round key serves twice in the roster.")
