"""A local server that answers by the PC's own heads: by none but those that belong to the version below them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kept_models import JOB, TEXTS, KeptSite, kept_site, random_state
from structlog.testing import capture_logs

from edge_agent.serving.asking import open_predictor, own_heads_of, shelf_of
from edge_agent.serving.service import ModelService
from ravan.errors import StateError
from ravan.manifest.plan import Task

ASKED = {"texts": [text for text, _ in TEXTS]}


@pytest.fixture
def site(tmp_path: Path) -> KeptSite:
    made = kept_site(tmp_path, Task.SEQUENCE_CLASSIFICATION)
    made.keep(seed=3, round_number=3)
    return made


def keep_own(site: KeptSite, seed: int) -> None:
    own_heads_of(site.config).keep(shelf_of(site.config).find(JOB), random_state(site.plan, seed))


def served(site: KeptSite, *, personal: bool = True) -> ModelService:
    own = own_heads_of(site.config) if personal else None
    return ModelService(JOB, shelf_of(site.config), lambda kept: open_predictor(site.config, kept), own)


def predictions(service: ModelService) -> list[Any]:
    return [each["probabilities"] for each in service.predict(ASKED)["predictions"]]


def expected(site: KeptSite, seed: int, tmp_path: Path) -> list[Any]:
    """What a PC answers whose shared version is that state."""
    other = kept_site(tmp_path / f"other-{seed}", Task.SEQUENCE_CLASSIFICATION)
    other.keep(seed=seed, round_number=1)
    return predictions(served(other, personal=False))


def test_own_heads_answer_until_there_are_some_for_the_newer_version(site: KeptSite, tmp_path: Path) -> None:
    keep_own(site, 9)
    service = served(site)
    own = [pytest.approx(each, rel=1e-6) for each in expected(site, 9, tmp_path)]
    assert predictions(service) == own
    assert (service.describe()["round"], service.describe()["personal"]) == (3, True)

    site.keep(seed=4, round_number=4)
    with capture_logs() as lines:
        assert predictions(service) == own
        assert service.describe()["round"] == 3
    assert [line["log_level"] for line in lines] == ["warning"]  # once, not at each question
    assert f"personalise {JOB}" in lines[0]["next_step"]

    keep_own(site, 10)
    assert predictions(service) == [pytest.approx(each, rel=1e-6) for each in expected(site, 10, tmp_path)]
    assert service.describe()["round"] == 4


def test_better_heads_on_the_same_version_are_taken_up(site: KeptSite, tmp_path: Path) -> None:
    keep_own(site, 9)
    service = served(site)
    keep_own(site, 11)
    assert predictions(service) == [pytest.approx(each, rel=1e-6) for each in expected(site, 11, tmp_path)]


def test_without_own_heads_it_does_not_start_and_without_asking_it_does_not_use_them(
    site: KeptSite, tmp_path: Path
) -> None:
    with pytest.raises(StateError, match="has no heads of its own"):
        served(site)
    keep_own(site, 9)
    shared = served(site, personal=False)
    assert predictions(shared) == [pytest.approx(each, rel=1e-6) for each in expected(site, 3, tmp_path)]
    assert shared.describe()["personal"] is False
