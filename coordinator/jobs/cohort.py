"""How large a minimum cohort a fleet can hold, and what to say about it. Pure."""

from __future__ import annotations

from typing import Final

from coordinator.jobs.jobfile import JobFile
from ravan.errors import ConfigError, ErrorReason
from ravan.manifest.assignment import BUNDLE_FLOOR, MAX_GROUP
from ravan.secagg.bundles import shamir_threshold

DEFAULT_THRESHOLD: Final = 8
"""Minimum cohort that is suggested as soon as the fleet is large enough: one site hides among seven others."""


def suggest_threshold(fleet_size: int) -> int:
    """Return the largest minimum cohort up to 8 that survives the losses which a whole fleet's round survives.

    A round of n sites goes on while t = floor(2 n / 3) + 1 of them are left; a larger minimum cohort than t would
    be what fails first.
    """
    return max(BUNDLE_FLOOR, min(DEFAULT_THRESHOLD, shamir_threshold(fleet_size)))


def check_cohort(job: JobFile, fleet_size: int) -> None:
    """Refuse a minimum cohort that `fleet_size` enrolled sites can never reach: ConfigError COHORT_UNREACHABLE."""
    wanted = job.secure_aggregation.bundle_threshold
    if fleet_size < BUNDLE_FLOOR:
        raise _unreachable(
            f"Secure aggregation needs at least {BUNDLE_FLOOR} enrolled sites, and {_sites(fleet_size)} enrolled.",
            "Make a token for each further site with `ravan-coordinator token create --site NAME` and enrol it.",
        )
    if wanted > fleet_size:
        raise _unreachable(
            f"[secure_aggregation] bundle_threshold = {wanted} can never be reached: {_sites(fleet_size)} enrolled.",
            f"This fleet can hold {describe_choices(fleet_size)}",
        )
    if fleet_size > MAX_GROUP and wanted > MAX_GROUP // 4:
        raise _unreachable(
            f"[secure_aggregation] bundle_threshold = {wanted} cannot be promised to {fleet_size} sites: more than"
            f" {MAX_GROUP} mask in groups, and it holds in each.",
            f"Set it to {MAX_GROUP // 4} or less.",
        )
    spare = job.allocation.spare_sites
    if wanted + spare > fleet_size:
        raise _unreachable(
            f"[allocation] spare_sites = {spare} beyond bundle_threshold = {wanted} can never be reached:"
            f" {_sites(fleet_size)} enrolled.",
            f"Set it to {fleet_size - wanted} or less, or enrol more sites.",
        )
    weighting = job.secure_aggregation.weighting()
    if weighting is not None and fleet_size < 2 * weighting.cell_minimum:
        raise _unreachable(
            f'[secure_aggregation] profile = "weighted" takes two cells of {weighting.cell_minimum} sites, and'
            f" {_sites(fleet_size)} enrolled.",
            f'Use profile = "uniform", or enrol more sites, {2 * weighting.cell_minimum} in all'
            f"{_smaller_cells(fleet_size)}.",
        )
    if job.minimum_sites > fleet_size:
        raise _unreachable(
            f"[round] minimum_sites = {job.minimum_sites} can never be reached: {_sites(fleet_size)} enrolled.",
            f"Set it to a value from {wanted} to {fleet_size}, or enrol more sites.",
        )


def describe_cohort(job: JobFile, fleet_size: int) -> str:
    """Return the sentence about a job's minimum cohort that its operator should read."""
    wanted = job.secure_aggregation.bundle_threshold
    absent = fleet_size - wanted
    sentence = f"A head's sum is released when at least {wanted} sites that train it are left; {_absent(absent)}."
    if wanted == suggest_threshold(fleet_size):
        return sentence
    return f"{sentence} Suggested for a fleet of {fleet_size}: bundle_threshold = {suggest_threshold(fleet_size)}."


def describe_choices(fleet_size: int) -> str:
    """Return which minimum cohorts a fleet of 3 or more can hold, and what each end means."""
    if fleet_size == BUNDLE_FLOOR:
        return f"{BUNDLE_FLOOR}, with no site absent."
    suggested = suggest_threshold(fleet_size)
    return (
        f"{BUNDLE_FLOOR} to {fleet_size}; {BUNDLE_FLOOR} tolerates {fleet_size - BUNDLE_FLOOR} absent "
        f"{'site' if fleet_size == BUNDLE_FLOOR + 1 else 'sites'}, {fleet_size} none. Suggested: {suggested}."
    )


def _smaller_cells(fleet_size: int) -> str:
    most = fleet_size // 2
    if most < BUNDLE_FLOOR:
        return ""
    return f", or set cell_threshold and cell_minimum to {most} or less, which tolerates fewer losses"


def _sites(count: int) -> str:
    return f"{count} site is" if count == 1 else f"{count} sites are"


def _absent(count: int) -> str:
    if count == 0:
        return "none of the enrolled sites may be absent"
    return f"{count} of the enrolled sites may be absent"


def _unreachable(sentence: str, next_step: str) -> ConfigError:
    return ConfigError(sentence, reason=ErrorReason.COHORT_UNREACHABLE, next_step=next_step)
