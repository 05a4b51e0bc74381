"""Which minimum cohort a fleet can hold, and the sentences about it."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.jobs.cohort import check_cohort, describe_cohort, suggest_threshold
from coordinator.jobs.jobfile import AllocationTable, JobFile, read_job_file
from coordinator.jobs.sample import write_sample
from ravan.errors import ConfigError, ErrorReason


def job_with(threshold: int, minimum_sites: int | None = None) -> JobFile:
    text = write_sample().replace("bundle_threshold = 8 ", f"bundle_threshold = {threshold} ")
    old = "minimum_sites = 8 "
    text = text.replace(old, "" if minimum_sites is None else f"minimum_sites = {minimum_sites} ")
    return read_job_file("\n".join(line for line in text.splitlines() if not line.startswith("   ")), source="job.toml")


def refusal(job: JobFile, fleet_size: int) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        check_cohort(job, fleet_size)
    assert caught.value.reason is ErrorReason.COHORT_UNREACHABLE
    return caught.value


def test_the_default_of_eight_in_a_fleet_of_five_names_what_would_work() -> None:
    error = refusal(job_with(8), 5)
    assert str(error) == ("[secure_aggregation] bundle_threshold = 8 can never be reached: 5 sites are enrolled.")
    assert error.next_step == ("This fleet can hold 3 to 5; 3 tolerates 2 absent sites, 5 none. Suggested: 4.")


def test_small_fleets() -> None:
    assert "needs at least 3 enrolled sites, and 1 site is enrolled" in str(refusal(job_with(3), 1))
    assert refusal(job_with(4), 3).next_step == "This fleet can hold 3, with no site absent."
    assert "3 tolerates 1 absent site, 4 none" in refusal(job_with(5), 4).next_step


def test_a_round_that_waits_for_more_sites_than_there_are_is_refused() -> None:
    error = refusal(job_with(3, minimum_sites=6), 5)
    assert "minimum_sites = 6" in str(error)
    assert "from 3 to 5" in error.next_step


def test_spare_sites_that_the_fleet_does_not_have_are_refused() -> None:
    job = job_with(4)
    job = job.model_copy(update={"allocation": AllocationTable(spare_sites=2)})
    check_cohort(job, 6)
    error = refusal(job, 5)
    assert str(error) == (
        "[allocation] spare_sites = 2 beyond bundle_threshold = 4 can never be reached: 5 sites are enrolled."
    )
    assert error.next_step == "Set it to 1 or less, or enrol more sites."


@given(st.integers(3, 128), st.integers(3, 128))
def test_a_threshold_passes_exactly_when_the_fleet_reaches_it(threshold: int, fleet_size: int) -> None:
    job = job_with(threshold)
    if threshold <= fleet_size:
        check_cohort(job, fleet_size)
    else:
        refusal(job, fleet_size)


@pytest.mark.parametrize(("fleet", "suggested"), [(3, 3), (4, 3), (5, 4), (6, 5), (9, 7), (12, 8), (100, 8)])
def test_suggestions(fleet: int, suggested: int) -> None:
    assert suggest_threshold(fleet) == suggested
    assert suggested in {8, math.floor(2 * fleet / 3) + 1}


def test_the_note_suggests_only_what_differs() -> None:
    assert describe_cohort(job_with(4), 5) == (
        "A head's sum is released when at least 4 sites that train it are left; 1 of the enrolled sites may be absent."
    )
    assert describe_cohort(job_with(3), 5).endswith("Suggested for a fleet of 5: bundle_threshold = 4.")
    assert "none of the enrolled sites may be absent" in describe_cohort(job_with(5), 5)


def weighted_job(threshold: int) -> JobFile:
    settings = f'profile = "weighted"\nbundle_threshold = {threshold}'
    text = re.sub(
        r"\[secure_aggregation\].*?\n\n", f"[secure_aggregation]\n{settings}\n\n", write_sample(), flags=re.DOTALL
    )
    return read_job_file(re.sub(r"minimum_sites.*\n", "", text), source="job.toml")


def test_weights_take_two_cells() -> None:
    # a cell of 3 with a tenth lost takes 7 sites
    job = weighted_job(3)
    assert job.minimum_sites == 14
    check_cohort(job, 14)
    error = refusal(job, 13)
    assert "two cells of 7 sites, and 13 sites are enrolled" in str(error)
    assert error.next_step == (
        'Use profile = "uniform", or enrol more sites, 14 in all, or set cell_threshold and cell_minimum to 6 or less, '
        "which tolerates fewer losses."
    )
    assert "cell_threshold" not in refusal(job, 4).next_step


def test_a_threshold_holds_in_each_group_of_a_large_fleet() -> None:
    check_cohort(job_with(33), 128)
    check_cohort(job_with(32), 129)
    error = refusal(job_with(33), 129)
    assert "cannot be promised to 129 sites" in str(error)
    assert error.next_step == "Set it to 32 or less."
