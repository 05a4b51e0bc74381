"""A PC's own heads on its disk: good for one version, and nothing of what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_jobs import kept_plan, plan_named, version

from edge_agent.serving.kept import KeptModel
from edge_agent.serving.own_heads import OwnHeads
from edge_agent.serving.shelf import ModelShelf
from ravan.errors import ModelError, StateError

ORDERS = plan_named("orders")


@pytest.fixture
def kept(tmp_path: Path) -> KeptModel:
    return keep(tmp_path, 1)


def keep(root: Path, number: int) -> KeptModel:
    shelf = ModelShelf(root / "models")
    shelf.keep(kept_plan(ORDERS), version(ORDERS, number), round_number=number, now=float(number))
    return shelf.find("orders")


def test_they_come_back_as_they_were_kept_and_the_newest_alone(tmp_path: Path, kept: KeptModel) -> None:
    own = OwnHeads(tmp_path / "personal")
    for content in (b"first", b"second"):
        own.keep(kept, content)
    assert OwnHeads(tmp_path / "personal").find(kept) == b"second"
    assert [path.read_bytes() for path in (tmp_path / "personal").rglob("*.safetensors")] == [b"second"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "personal").rglob("*"))


def test_without_any_the_way_to_them_is_told(tmp_path: Path, kept: KeptModel) -> None:
    with pytest.raises(StateError, match="has no heads of its own for 'orders'") as caught:
        OwnHeads(tmp_path / "personal").find(kept)
    assert "ravan-agent personalise orders" in caught.value.next_step


def test_they_do_not_serve_on_top_of_another_version(tmp_path: Path, kept: KeptModel) -> None:
    own = OwnHeads(tmp_path / "personal")
    own.keep(kept, b"own")
    with pytest.raises(StateError, match="are on top of round 1, and the version is of round 2 by now"):
        own.find(keep(tmp_path, 2))


def test_damage_is_told(tmp_path: Path, kept: KeptModel) -> None:
    own = OwnHeads(tmp_path / "personal")
    own.keep(kept, b"own")
    (state,) = (tmp_path / "personal").rglob("*.safetensors")
    state.write_bytes(b"other")
    with pytest.raises(ModelError, match="gone or damaged"):
        own.find(kept)
    state.unlink()
    with pytest.raises(ModelError, match="gone or damaged"):
        own.find(kept)
    for content in ("", "[]", "{"):
        (tmp_path / "personal" / ORDERS.job_id / "heads.json").write_text(content)
        with pytest.raises(StateError, match="has no heads of its own"):
            own.find(kept)
