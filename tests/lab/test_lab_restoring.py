"""Whatever a method does, the base model is afterwards as it was, so that the next run begins where every run does."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch
from tiny_lab import cell_of, cohort_of, method_of, same_weights, tiny_task, weights_now
from torch import nn

from lab.methods.registry import METHODS
from lab.simulation import play_cell
from ravan.tasks.batch import Batch


class BrokenError(Exception):
    """Stands for whatever goes wrong in the middle of a step."""


def modules_now() -> list[int]:
    return [id(module) for module in tiny_task().task.model.modules()]


def played() -> list[Any]:
    """Play what looks at everything that could be left behind: heads, factors, the whole model."""
    federation = {"clients": 1, "per_round": 1}
    cells = [cell_of(name, seed=9, rounds=1, federation=federation) for name in ("ravan", "fedit", "full")]
    return [play_cell(cell, tiny_task()).curve for cell in cells]


@pytest.fixture(scope="module")
def expected() -> list[Any]:
    return played()


@pytest.mark.parametrize("name", list(METHODS))
def test_playing_and_scoring_leave_the_base_model_as_it_was(name: str, expected: list[Any]) -> None:
    before, modules = weights_now(), modules_now()
    method = method_of(name)
    for number in (1, 2):
        method.play(number, cohort_of(method.bench, number))
        assert same_weights(weights_now(), before)
        score = method.evaluate(tiny_task().test)
        assert score.examples == 18
        assert same_weights(weights_now(), before)
        assert modules_now() == modules
    assert played() == expected


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("name", list(METHODS))
def test_so_does_training_that_breaks_off(
    name: str, step: int, monkeypatch: pytest.MonkeyPatch, expected: list[Any]
) -> None:
    before, modules = weights_now(), modules_now()
    task, steps = tiny_task().task, count(1)
    losses = task.losses

    def broken(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        if next(steps) > step:
            raise BrokenError
        return losses(logits, batch)

    method = method_of(name)
    with monkeypatch.context() as patch:
        patch.setattr(task, "losses", broken)
        with pytest.raises(BrokenError):
            method.play(1, cohort_of(method.bench))
    assert same_weights(weights_now(), before)
    assert modules_now() == modules
    assert played() == expected


@pytest.mark.parametrize("name", list(METHODS))
def test_scoring_that_breaks_off_takes_everything_out_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, modules = weights_now(), modules_now()
    method = method_of(name)
    method.play(1, cohort_of(method.bench))

    def broken(batch: Batch) -> torch.Tensor:
        raise BrokenError

    with monkeypatch.context() as patch:
        patch.setattr(tiny_task().task, "logits", broken)
        with pytest.raises(BrokenError):
            method.evaluate(tiny_task().test)
    assert same_weights(weights_now(), before)
    assert modules_now() == modules


@pytest.mark.parametrize("name", [name for name in METHODS if name != "head_only"])
def test_a_run_that_blows_up_scores_nothing_and_leaves_nothing(name: str) -> None:
    before = weights_now()
    outcome = play_cell(cell_of(name, learning_rate=1e30), tiny_task())
    assert outcome.diverged
    assert outcome.accuracy == 0
    assert outcome.curve == ()
    assert same_weights(weights_now(), before)


def test_nothing_but_what_a_method_trains_gets_a_gradient() -> None:
    full, fedit = method_of("full"), method_of("fedit")
    full.play(1, cohort_of(full.bench))
    fedit.play(1, cohort_of(fedit.bench))
    model: nn.Module = tiny_task().task.model
    trained = {name for name, _ in tiny_task().task.new_parameters}
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} <= trained
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} <= trained
