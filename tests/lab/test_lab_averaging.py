"""The mean over a run's last states: of the weights that the model computes with, and of nothing that clients get."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_lab import MATRICES, cohort_of, method_of, tiny_task

from lab.methods.method import Method

NAMES = ("ravan", "fed_sb", "fedit", "ffa_lora", "flora", "alternating", "full", "moving_ravan")


def effective_weights(method: Method) -> dict[str, torch.Tensor]:
    """Return what each adapted layer does to unit vectors, and the classifier."""
    model = tiny_task().task.model
    with method.installed(), torch.inference_mode():
        rows = torch.eye(16)
        found = {name: model.get_submodule(name)(rows).double().clone() for name in MATRICES}
        found |= {name: model.get_parameter(name).double().clone() for name, _ in tiny_task().task.new_parameters}
    return found


def played(name: str, rounds: int, **options: Any) -> Method:
    method = method_of(name, **options)
    for number in range(1, rounds + 1):
        method.play(number, cohort_of(method.bench, number))
    return method


@pytest.mark.parametrize("name", NAMES)
def test_what_is_scored_is_the_mean_of_the_weights_after_the_last_rounds(name: str) -> None:
    options: dict[str, Any] = {"every": 100, "width": 4} if name == "moving_ravan" else {}
    after = [effective_weights(played(name, rounds, **options)) for rounds in (2, 3, 4)]
    mean = effective_weights(played(name, 4, averaged=3, **options))
    for layer, weight in mean.items():
        expected = torch.stack([each[layer] for each in after]).mean(0)
        assert torch.allclose(weight, expected, atol=2e-6)
        assert not torch.allclose(weight, after[-1][layer], atol=1e-5)


def test_bases_that_move_begin_a_new_mean() -> None:
    moving: dict[str, Any] = {"every": 3, "width": 4}
    last, mean = (effective_weights(played("moving_ravan", 4, averaged=kind, **moving)) for kind in (1, 3))
    assert all(torch.allclose(last[name], mean[name], atol=1e-6) for name in last)


def test_clients_go_on_from_the_last_state() -> None:
    plain, averaged = (played("fedit", 3, averaged=kind) for kind in (1, 2))
    for name in MATRICES:
        assert torch.equal(plain.adapter[name].b, averaged.adapter[name].b)  # type: ignore[attr-defined]
