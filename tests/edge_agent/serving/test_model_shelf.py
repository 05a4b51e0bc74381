"""Versions on a PC's disk: the newest alone, whole at any moment, and nothing of what is damaged."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from kept_jobs import digest_of, digest_of_plan, kept_plan, plan_named, version

from edge_agent.serving.shelf import ModelShelf
from ravan.errors import ErrorReason, ModelError, StateError
from ravan.ids import JobId

ORDERS = plan_named("orders")


def test_a_version_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    shelf, state = ModelShelf(tmp_path / "models"), version(ORDERS, 4)
    shelf.keep(kept_plan(ORDERS), state, round_number=4, now=10.0)
    model = ModelShelf(tmp_path / "models").find("orders")
    assert model.plan == ORDERS
    assert model.plan_digest == digest_of_plan(ORDERS)
    assert (model.state_digest, model.round_number, model.kept_at) == (digest_of(state), 4, 10.0)
    assert model.read_state() == state
    assert shelf.find(ORDERS.job_id) == model


def test_only_the_newest_version_stays(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path)
    for number in (1, 2, 3):
        shelf.keep(kept_plan(ORDERS), version(ORDERS, number), round_number=number, now=float(number))
    assert [path.read_bytes() for path in tmp_path.rglob("*.safetensors")] == [version(ORDERS, 3)]
    assert shelf.find("orders").round_number == 3


def test_a_job_of_the_same_name_takes_the_place_of_the_one_before_when_it_has_a_version(tmp_path: Path) -> None:
    shelf, again, other = ModelShelf(tmp_path), plan_named("orders", 1), plan_named("parts")
    shelf.keep(kept_plan(ORDERS), version(ORDERS, 1), round_number=1, now=1.0)
    shelf.keep(kept_plan(other), version(other, 1), round_number=1, now=2.0)
    shelf.put_plan(kept_plan(again))
    assert shelf.find("orders").plan == ORDERS
    shelf.keep(kept_plan(again), version(again, 1), round_number=1, now=3.0)
    assert [model.plan for model in shelf.models()] == [again, other]


def test_a_job_that_ends_without_a_version_leaves_nothing(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path)
    shelf.put_plan(kept_plan(ORDERS))
    assert shelf.plan_of_run(ORDERS.run_id) == shelf.plan_of_job(ORDERS.job_id) == kept_plan(ORDERS)
    shelf.end_job(ORDERS.job_id)
    assert list(tmp_path.iterdir()) == []
    shelf.keep(kept_plan(ORDERS), version(ORDERS, 1), round_number=1, now=1.0)
    shelf.end_job(ORDERS.job_id)
    assert shelf.find("orders").round_number == 1


def test_a_version_is_here_from_its_round_on_while_it_is_whole(tmp_path: Path) -> None:
    shelf, plan = ModelShelf(tmp_path), kept_plan(ORDERS)
    assert not shelf.has(plan, 1)
    shelf.keep(plan, version(ORDERS, 2), round_number=2, now=1.0)
    assert [shelf.has(plan, number) for number in (1, 2, 3)] == [True, True, False]
    # After a restore the job goes on as another run, whose rounds count anew.
    other = dataclasses.replace(ORDERS, run_id=plan_named("other").run_id)
    assert not shelf.has(kept_plan(other), 1)
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"damaged")
    assert not shelf.has(plan, 1)


def test_a_damaged_version_is_refused(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path)
    shelf.keep(kept_plan(ORDERS), version(ORDERS, 1), round_number=1, now=1.0)
    model = shelf.find("orders")
    model.path.write_bytes(model.path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="gone or damaged"):
        model.read_state()
    model.path.unlink()
    with pytest.raises(ModelError, match="gone or damaged"):
        model.read_state()


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"plan": 5}', '{"plan": "zz"}', "null"])
def test_damaged_files_count_as_none(tmp_path: Path, damage: str) -> None:
    shelf = ModelShelf(tmp_path)
    shelf.put_plan(kept_plan(ORDERS))
    shelf.keep(kept_plan(ORDERS), version(ORDERS, 1), round_number=1, now=1.0)
    for name in ("kept.json", "prepared.json"):
        (tmp_path / ORDERS.job_id / name).write_text(damage)
    assert shelf.models() == ()
    assert shelf.plan_of_job(ORDERS.job_id) is None


def test_a_plan_that_nobody_signed_counts_as_none(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path)
    shelf.keep(kept_plan(ORDERS), version(ORDERS, 1), round_number=1, now=1.0)
    path = tmp_path / ORDERS.job_id / "kept.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"plan": kept_plan(plan_named("other")).document.payload.hex()}))
    assert shelf.models() == ()


@pytest.mark.parametrize("job_id", ["../outside", "", ".", "a/b", "A", "x" * 200])
def test_an_id_that_names_no_folder_is_refused(tmp_path: Path, job_id: str) -> None:
    plan = dataclasses.replace(ORDERS, job_id=JobId(job_id))
    with pytest.raises(StateError) as caught:
        ModelShelf(tmp_path).end_job(plan.job_id)
    assert caught.value.reason is ErrorReason.MALFORMED


def test_an_unknown_job_is_answered_with_those_there_are(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path / "models")
    with pytest.raises(StateError, match="no model of a job 'parts'") as caught:
        shelf.find("parts")
    assert "when a round that it took part in is committed" in caught.value.next_step
    shelf.keep(kept_plan(ORDERS), version(ORDERS, 1), round_number=1, now=1.0)
    with pytest.raises(StateError) as caught:
        shelf.find("parts")
    assert caught.value.next_step == "There are: orders."
