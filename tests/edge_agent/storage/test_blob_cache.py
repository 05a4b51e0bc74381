"""The cache of content: what jobs need stays, the rest makes room, and the limit holds whatever is asked for."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from job_plans import plan_of

from edge_agent.storage.blob_cache import BlobCache
from edge_agent.storage.share import DiskShare
from edge_agent.training.model_folder import assemble_model_folder
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest
from ravan.manifest.plan import JobPlan, ModelFile

DAY_S = 86_400.0
JOB, OTHER = Digest(b"j" * 32), Digest(b"o" * 32)


def digest_of(content: bytes) -> Digest:
    return Digest(hashlib.sha256(content).digest())


def content(letter: str, size: int = 100) -> bytes:
    return letter.encode() * size


def plan_with(*contents: bytes) -> JobPlan:
    files = tuple(
        ModelFile(path=f"file-{i}", sha256=digest_of(each), size_bytes=len(each)) for i, each in enumerate(contents)
    )
    return dataclasses.replace(plan_of(0), model_files=files)


class Scene:
    """A cache on a clock of its own, limited to so many bytes."""

    def __init__(self, root: Path, limit_bytes: int = 0, kept: Sequence[JobPlan] = ()) -> None:
        self.now = 1_000_000.0
        self.root = root
        self.share = DiskShare(limit_bytes=limit_bytes, folders=(root / "cache", root / "state"))
        self.cache = BlobCache(root / "cache", self.share, lambda: kept, lambda: self.now)

    def store(self, data: bytes) -> Path:
        """Do what a download does."""
        digest = digest_of(data)
        with self.cache.receiving(digest) as path:
            self.cache.make_room(len(data))
            path.write_bytes(data)
        self.now += 1
        assert self.cache.find(digest) == path
        return path

    def holds(self, contents: Iterable[bytes]) -> list[bool]:
        return [self.cache.path_of(digest_of(each)).exists() for each in contents]


A, B, C = (content(letter) for letter in "abc")


def test_what_is_damaged_is_dropped_and_not_handed_out(tmp_path: Path) -> None:
    Scene(tmp_path).store(A).write_bytes(B)
    fresh = Scene(tmp_path)
    assert fresh.cache.find(digest_of(A)) is None
    assert fresh.holds([A]) == [False]


def test_the_longest_unused_makes_room(tmp_path: Path) -> None:
    scene = Scene(tmp_path, limit_bytes=250)
    scene.store(A)
    scene.store(B)
    scene.now += 1
    scene.cache.find(digest_of(A))
    scene.store(C)
    assert scene.holds([A, B, C]) == [True, False, True]


def test_unfinished_rounds_count_and_make_models_go(tmp_path: Path) -> None:
    scene = Scene(tmp_path, limit_bytes=250)
    scene.store(A)
    scene.store(B)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "payload").write_bytes(bytes(60))
    scene.cache.make_room(90)
    assert scene.holds([A, B]) == [False, True]


def test_what_a_job_needs_stays_and_the_refusal_says_what_to_raise(tmp_path: Path) -> None:
    scene = Scene(tmp_path, limit_bytes=250)
    scene.cache.begin_job(JOB, plan_with(A))
    scene.store(A)
    scene.cache.use_version(JOB, digest_of(B))
    scene.store(B)
    with pytest.raises(ResourceError) as caught:
        scene.store(C)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert "disk_limit_mb" in caught.value.next_step
    assert scene.holds([A, B, C]) == [True, True, False]
    scene.cache.end_job(JOB)
    scene.store(C)
    assert scene.holds([A, B, C]) == [True, False, True]


def test_a_model_that_the_plant_may_ask_stays(tmp_path: Path) -> None:
    scene = Scene(tmp_path, limit_bytes=150, kept=[plan_with(A)])
    scene.store(A)
    with pytest.raises(ResourceError):
        scene.store(B)
    assert scene.holds([A]) == [True]


def test_a_version_goes_for_the_next_one_and_with_its_job(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.cache.use_version(JOB, digest_of(A))
    scene.cache.use_version(OTHER, digest_of(A))
    scene.store(A)
    scene.cache.use_version(JOB, digest_of(A))
    scene.cache.use_version(JOB, digest_of(B))
    assert scene.holds([A]) == [True]  # the other job begins with it
    scene.store(B)
    scene.cache.use_version(OTHER, digest_of(B))
    assert scene.holds([A, B]) == [False, True]
    scene.cache.end_job(JOB)
    assert scene.holds([B]) == [True]
    scene.cache.end_job(OTHER)
    assert scene.holds([B]) == [False]


def test_a_dropped_version_that_comes_again_is_checked_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.cache.use_version(JOB, digest_of(A))
    path = scene.store(A)
    scene.cache.use_version(JOB, digest_of(B))
    path.write_bytes(C)
    assert scene.cache.find(digest_of(A)) is None


def test_after_a_month_without_use_even_an_unlimited_cache_lets_go(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.store(A)
    scene.now += 29 * DAY_S
    scene.store(B)
    assert scene.holds([A, B]) == [True, True]
    scene.now += 2 * DAY_S
    scene.store(C)
    assert scene.holds([A, B, C]) == [False, True, True]


def test_an_unfinished_part_makes_room_unless_it_is_what_arrives(tmp_path: Path) -> None:
    scene = Scene(tmp_path, limit_bytes=250)
    part = scene.cache.path_of(digest_of(A)).with_name(digest_of(A).hex() + ".part")
    part.write_bytes(A[:60])
    with scene.cache.receiving(digest_of(A)):
        scene.cache.make_room(190)
        with pytest.raises(ResourceError), scene.cache.receiving(digest_of(B)):
            scene.cache.make_room(200)
        assert part.exists()
    scene.cache.make_room(200)
    assert not part.exists()


def test_links_to_a_dropped_models_files_give_their_space_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, limit_bytes=250, kept=[plan_with(B)])
    folders = {
        each: assemble_model_folder(plan_with(each), {"file-0": scene.store(each)}, tmp_path / "cache" / "models")
        for each in (A, B)
    }
    draft = tmp_path / "cache" / "models" / "tmp4x7u"  # as another thread is just filling it
    draft.mkdir()
    scene.store(C)
    assert scene.share.used_bytes() == 200
    assert (folders[A].exists(), folders[B].exists(), draft.exists()) == (False, True, True)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["store", "find", "begin", "end", "version"]), st.integers(0, 5)), max_size=25
    ),
    limit=st.integers(150, 600),
)
def test_the_limit_holds_and_nothing_needed_goes(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], limit: int
) -> None:
    scene = Scene(tmp_path_factory.mktemp("cache"), limit_bytes=limit)
    contents = [content(letter, 40 + 20 * i) for i, letter in enumerate("uvwxyz")]
    model: dict[int, bytes] = {}
    version: bytes | None = None
    for what, i in steps:
        before = scene.holds(contents)
        match what:
            case "store":
                try:
                    scene.store(contents[i])
                except ResourceError:
                    assert not scene.holds(contents)[i] or before[i]
            case "find":
                assert (scene.cache.find(digest_of(contents[i])) is not None) == before[i]
            case "begin":
                scene.cache.begin_job(Digest(bytes([i]) * 32), plan_with(contents[i]))
                model[i] = contents[i]
            case "end":
                scene.cache.end_job(Digest(bytes([i]) * 32))
                model.pop(i, None)
            case "version":
                scene.cache.use_version(JOB, digest_of(contents[i]))
                version = contents[i]
        assert scene.share.used_bytes() <= limit
        after = scene.holds(contents)
        for number, each in enumerate(contents):
            if (number in model and what != "version") or each == version:
                assert after[number] >= before[number]
