"""Predicted costs against sums done by hand, and what a step keeps against a network that can be followed by eye."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from bare_tasks import BareTask
from hypothesis import given
from hypothesis import strategies as st
from job_plans import plan_of
from torch import Tensor, nn
from torch.nn.functional import relu

from edge_agent.hardware.correction import LEAST_GROWTH, SPARE, correct_profile
from edge_agent.hardware.cost_model import CostModel, Measured, StepCost
from edge_agent.hardware.kept import Kept, count_kept
from ravan.ids import Digest
from ravan.manifest.plan import Precision
from ravan.manifest.profile import JobProfile
from ravan.tasks.batch import Batch
from ravan.tasks.texts import noisy_texts

PLAN = plan_of(2)
"""Two matrices of 12 x 12 with four heads of rank 3."""
KEPT = Kept(bytes_from=(1000, 400), rows=(5, 5))
BATCH = 4

WEIGHT = 12 * 12 * 4
HEADS = 4 * 3 * (12 + 12) * 4 + 4 * (3 * 3 + 1) * 4 * 4
"""Bases, and numbers with gradient and two moments."""
TRAINED = HEADS + WEIGHT
"""20 tokens are too few to make the merged weight twice, so it is kept."""


def profile_of(
    floor: int = 5000, working: int = 1000, preparing: int = 0, kept: Kept = KEPT, matrices: int = 1
) -> JobProfile:
    reached = TRAINED + BATCH * kept.bytes_from[1] + working
    measured = Measured(
        least=0,
        floor=StepCost(extra_bytes=floor, seconds=1.0),
        matrices=matrices,
        reached=StepCost(extra_bytes=reached, seconds=2.0),
        preparing_bytes=preparing,
    )
    return CostModel(PLAN, kept, BATCH).profile(measured, plan_digest=Digest(bytes(32)), loaded_bytes=10_000)


def test_a_matrix_that_does_not_train_is_folded() -> None:
    assert profile_of().extra_bytes(0) == 5000 + 2 * WEIGHT
    assert profile_of().peak_bytes(0) == 10_000 + 5000 + 2 * WEIGHT


def test_what_is_kept_grows_with_the_batch_and_the_room_to_work_stays() -> None:
    assert profile_of().extra_bytes(2) == 2 * TRAINED + BATCH * 1000 + 1000


def test_the_forward_pass_of_frozen_layers_may_be_the_peak() -> None:
    # With nothing trained all is folded, and more matrices never count as less.
    assert [profile_of(floor=50_000).extra_bytes(matrices) for matrices in (0, 1, 2)] == [50_000 + 2 * WEIGHT] * 3


def test_drawing_the_last_bases_may_be_the_peak() -> None:
    bases = 2 * 4 * 3 * (12 + 12) * 4
    assert profile_of(preparing=90_000).extra_bytes(2) == bases + 90_000


def test_fewer_matrices_never_take_more() -> None:
    # One matrix less to fold, and hardly anything kept: by itself it would take less than none.
    slight = Kept(bytes_from=(1000, 0), rows=(5, 5))
    profile = profile_of(kept=slight)
    assert profile.extra_bytes(1) == profile.extra_bytes(0)


def test_time_grows_with_what_gradients_pass_through() -> None:
    # One matrix keeps 400 bytes and takes a second more; both keep 1000.
    assert [profile_of().step_s(matrices) for matrices in (0, 1, 2)] == pytest.approx([1.0, 2.0, 3.5])


def test_the_time_of_the_top_matrix_is_the_floor_where_all_that_trains_is_heads() -> None:
    # The smallest step trains one matrix and takes a second; both keep 1000 bytes and take three.
    measured = Measured(
        least=1,
        floor=StepCost(extra_bytes=5000, seconds=1.0),
        matrices=2,
        reached=StepCost(extra_bytes=9000, seconds=3.0),
        preparing_bytes=0,
    )
    profile = CostModel(PLAN, KEPT, BATCH).profile(measured, plan_digest=Digest(bytes(32)), loaded_bytes=0)
    assert [profile.step_s(matrices) for matrices in (0, 1, 2)] == pytest.approx([1.0, 1.0, 3.0])


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.INT8])
def test_beside_a_narrow_weight_nothing_is_folded_merged_or_held_for_one_matrix_alone(precision: Precision) -> None:
    model = CostModel(replace(PLAN, precision=precision), KEPT, BATCH)
    cores = 4 * (3 * 3 + 1) * 4 * 4
    measured = Measured(
        least=0,
        # The measured steps hold the bases of both matrices.
        floor=StepCost(extra_bytes=7000, seconds=1.0),
        matrices=1,
        reached=StepCost(extra_bytes=7000 + cores + BATCH * 400, seconds=2.0),
        preparing_bytes=0,
    )
    profile = model.profile(measured, plan_digest=Digest(bytes(32)), loaded_bytes=0)
    expected = [7000, 7000 + cores + BATCH * 400, 7000 + 2 * cores + BATCH * 1000]
    assert [profile.extra_bytes(matrices) for matrices in (0, 1, 2)] == expected


def test_beside_a_narrow_weight_the_last_bases_are_drawn_when_all_others_are_in_place() -> None:
    model = CostModel(replace(PLAN, precision=Precision.BFLOAT16), KEPT, BATCH)
    small = StepCost(extra_bytes=0, seconds=1.0)
    measured = Measured(least=0, floor=small, matrices=1, reached=small, preparing_bytes=90_000)
    bases = 2 * 4 * 3 * (12 + 12) * 2
    profile = model.profile(measured, plan_digest=Digest(bytes(32)), loaded_bytes=0)
    assert profile.extra_bytes(0) == bases + 90_000


def test_the_means_serve_those_who_know_no_more() -> None:
    profile = profile_of()
    old = replace(profile, ram_reached_bytes=(), step_reached_s=())
    assert old.extra_bytes(2) == pytest.approx(profile.extra_bytes(2), abs=2)
    assert old.step_s(2) == pytest.approx(profile.step_s(2))
    assert old.step_s(1) == pytest.approx(2.25)


def test_more_matrices_than_are_known_are_priced_by_the_mean() -> None:
    profile = profile_of()
    assert profile.extra_bytes(3) == profile.ram_floor_bytes + 3 * profile.ram_per_matrix_bytes


class Followed(nn.Module):
    """Two adapted layers and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="followed")
        self.embedding = nn.Embedding(10, 12).requires_grad_(False)
        self.layer = nn.ModuleList(nn.ModuleDict({"query": nn.Linear(12, 12)}) for _ in range(2))
        self.classifier = nn.Linear(12, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        x = self.embedding(input_ids)
        for layer in self.layer:
            x = relu(layer.get_submodule("query")(x))
        return SimpleNamespace(logits=self.classifier(x.sum(1)))


def batch_of(tokens: int) -> Callable[[int], Batch]:
    return lambda size: noisy_texts(size, tokens, 10, 3)


def test_each_storage_is_counted_once_and_weights_are_not() -> None:
    model = Followed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kept = count_kept(BareTask(model, PLAN.training), PLAN, batch_of(16))
    activation, pooled = 16 * 12 * 4, 12 * 4
    # The input of a layer is the rectified output of the one below, which both keep.
    assert kept.bytes_from == (3 * activation + pooled, 2 * activation + pooled)
    assert kept.rows == (16, 16)
    assert all(
        torch.equal(before[name], value) for name, value in model.state_dict().items() if "classifier" not in name
    )


LOADED = 1 << 28


def measured_profile(floor: int, steps: list[int]) -> JobProfile:
    """What each further matrix adds is in `steps`."""
    return JobProfile(
        plan_digest=Digest(bytes(32)),
        ram_loaded_bytes=LOADED,
        ram_floor_bytes=floor,
        ram_per_matrix_bytes=1 << 20,
        step_floor_s=0.1,
        step_per_matrix_s=0.1,
        ram_reached_bytes=tuple(floor + sum(steps[: number + 1]) for number in range(len(steps))),
    )


@given(
    floor=st.integers(0, 1 << 34),
    steps=st.lists(st.integers(0, 1 << 30), max_size=6),
    matrices=st.integers(0, 6),
    over=st.integers(1, 1 << 34),
)
def test_a_correction_covers_what_was_seen_and_lowers_nothing(
    floor: int, steps: list[int], matrices: int, over: int
) -> None:
    profile = measured_profile(floor, steps)
    before = profile.extra_bytes(matrices)
    after = correct_profile(profile, matrices, LOADED + before + over, least=0, limit_bytes=1 << 60)
    if before:
        # Floating point rounds what is as large as this by a few bytes.
        assert after.extra_bytes(matrices) >= max(before + over, LEAST_GROWTH * before) * (1 - 1e-9)
    assert all(after.extra_bytes(number) >= profile.extra_bytes(number) for number in range(8))
    assert after.step_s(matrices) == profile.step_s(matrices)


@given(
    floor=st.integers(0, 1 << 31),
    steps=st.lists(st.integers(0, 1 << 30), min_size=1, max_size=6),
    least=st.integers(0, 1),
    limit=st.integers(LOADED, 1 << 33),
)
def test_guesses_in_a_row_leave_the_smallest_allocation_within_a_limit_that_held_it(
    floor: int, steps: list[int], least: int, limit: int
) -> None:
    profile = measured = measured_profile(floor, steps)
    for _ in range(40):
        profile = correct_profile(profile, len(steps), 0, least=least, limit_bytes=limit)
    allowed = max(measured.peak_bytes(least), limit / SPARE)
    # Each correction rounds up to whole bytes.
    assert measured.peak_bytes(least) <= profile.peak_bytes(least) <= allowed + 40


def test_a_guess_adds_a_fifth_where_the_limit_has_room_for_it() -> None:
    measured = measured_profile(100 << 20, [50 << 20])
    guessed = correct_profile(measured, 1, 0, least=0, limit_bytes=1 << 40)
    assert guessed.extra_bytes(1) == LEAST_GROWTH * (150 << 20)


def test_what_was_seen_counts_also_where_nothing_is_left_to_train_then() -> None:
    measured, limit = measured_profile(100 << 20, [50 << 20]), LOADED + (120 << 20)
    seen = correct_profile(measured, 0, limit + (1 << 20), least=0, limit_bytes=limit)
    assert seen.peak_bytes(0) > limit
