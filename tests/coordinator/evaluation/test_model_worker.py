"""The evaluation process from the daemon's side, with the real MiniLM: its work, its death, its errors."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from job_plans import plan_of

from coordinator.evaluation.folders import materialise_model
from coordinator.evaluation.pool import ModelWorker
from coordinator.jobs.models import collect_model_folder
from coordinator.store.blobs.local import LocalBlobs
from deploy.demo.work_orders import LABELS, installed_model, installed_table, is_held_out, read_work_orders
from ravan.adapters.planned_bases import differing_matrices
from ravan.adapters.state import encode_state, initial_state
from ravan.data.source import DataSource
from ravan.errors import ErrorReason, ResourceError, TransferError
from ravan.ids import BlockKind, Digest
from ravan.manifest.plan import BasisKind, JobPlan, Matrix, ModelFile, Precision

SETTINGS = replace(plan_of(0).training, labels=LABELS)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def minilm(blobs: LocalBlobs) -> tuple[ModelFile, ...]:
    return tuple(
        ModelFile(path=name, sha256=blobs.put(path.read_bytes()), size_bytes=path.stat().st_size)
        for name, path in sorted(collect_model_folder(installed_model()).files.items())
    )


@pytest_asyncio.fixture
async def worker(blobs: LocalBlobs, tmp_path: Path) -> AsyncIterator[ModelWorker]:
    worker = ModelWorker(blobs, tmp_path / "work", threads=1)
    yield worker
    await worker.close()


def minilm_plan(files: tuple[ModelFile, ...], dense: tuple[tuple[str, tuple[int, ...]], ...]) -> JobPlan:
    plan = plan_of(0, heads=0, dense=dense)
    return replace(plan, model_files=files, training=SETTINGS)


def write_held_out(path: Path, count: int) -> DataSource:
    orders = [order for order in read_work_orders(installed_table()) if is_held_out(order.text)][:count]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "subsystem"), *((o.text, o.subsystem) for o in orders)])
    return DataSource(path=path, name=path.name, label="subsystem")


async def test_minilms_bases_are_found_stored_and_scored_with(
    worker: ModelWorker, minilm: tuple[ModelFile, ...], blobs: LocalBlobs, tmp_path: Path
) -> None:
    inventory = await worker.inspect(minilm, SETTINGS, ("query", "value"), Precision.FLOAT32)
    plan = replace(minilm_plan(minilm, inventory.dense), training=inventory.training)
    matrices = tuple(
        Matrix(ordinal=i, name=name, out_features=out, in_features=inputs, basis_digest=Digest(b""))
        for i, (name, out, inputs) in enumerate(inventory.linears)
    )
    adapter = replace(plan.adapter, heads=4, rank=39, basis=BasisKind.ALIGNED)
    held_out = write_held_out(tmp_path / "held-out.csv", 60)
    found = await worker.align(replace(plan, adapter=adapter, matrices=matrices), held_out)
    assert len(set(found.bases)) == 12
    # Of each matrix two sides of 32 directions, in float32, and a header.
    assert 0 < blobs.size(found.directions) - 12 * 2 * 32 * 384 * 4 < 4096
    assert not list(blobs.incoming.iterdir())
    settled = tuple(replace(m, basis_digest=digest) for m, digest in zip(matrices, found.bases, strict=True))
    plan = replace(plan, adapter=adapter, matrices=settled, directions=found.directions)
    assert differing_matrices(plan, blobs.path(found.directions)) == ()
    still = initial_state(plan)
    moved = {b: np.ones_like(a) if b.kind is BlockKind.HEAD else a for b, a in still.items()}
    first, second = [await worker.evaluate(plan, encode_state(plan, state), held_out) for state in (still, moved)]
    assert first.examples == second.examples == 60
    assert first.loss != second.loss


async def test_minilm_is_inspected_and_scored_and_a_killed_process_is_replaced(
    worker: ModelWorker, minilm: tuple[ModelFile, ...], tmp_path: Path
) -> None:
    inventory = await worker.inspect(minilm, SETTINGS, ("query", "value"), Precision.FLOAT32)
    assert len(inventory.linears) == 12
    assert {(out, inputs) for _, out, inputs in inventory.linears} == {(384, 384)}
    assert inventory.dense == (("classifier.weight", (9, 384)), ("classifier.bias", (9,)))

    plan = minilm_plan(minilm, inventory.dense)
    state = encode_state(plan, initial_state(plan))
    held_out = write_held_out(tmp_path / "held-out.csv", 100)
    first = await worker.evaluate(plan, state, held_out)
    assert first.examples == 100
    # An untrained classifier over nine classes guesses: its loss lies near ln 9 = 2.197.
    assert 1.8 < first.loss < 2.6

    os.kill(await worker.run(os.getpid), signal.SIGKILL)
    assert await worker.evaluate(plan, state, held_out) == first


async def test_a_task_that_kills_its_process_twice_is_given_up_with_a_sentence(worker: ModelWorker) -> None:
    with pytest.raises(ResourceError, match="died twice") as caught:
        await worker.run(os._exit, 1)
    assert caught.value.reason is ErrorReason.MEMORY_LIMIT
    assert await worker.run(os.getpid) != os.getpid()


async def test_errors_come_out_of_the_process_whole(
    worker: ModelWorker, minilm: tuple[ModelFile, ...], blobs: LocalBlobs
) -> None:
    broken = tuple(file for file in minilm if file.path != "config.json")
    with pytest.raises(Exception, match="cannot be used for this task") as caught:
        await worker.inspect(broken, SETTINGS, (), Precision.FLOAT32)
    assert getattr(caught.value, "reason", None) is ErrorReason.MODEL_INVALID


def test_a_missing_blob_is_named_before_any_folder_is_made(blobs: LocalBlobs, tmp_path: Path) -> None:
    file = ModelFile(path="config.json", sha256=Digest(bytes(32)), size_bytes=1)
    with pytest.raises(TransferError):
        materialise_model((file,), blobs, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_model_folder_is_made_once_and_holds_the_blobs_under_their_names(blobs: LocalBlobs, tmp_path: Path) -> None:
    file = ModelFile(path="config.json", sha256=blobs.put(b"{}"), size_bytes=2)
    folder = materialise_model((file,), blobs, tmp_path / "work")
    assert (folder / "config.json").read_bytes() == b"{}"
    assert materialise_model((file,), blobs, tmp_path / "work") == folder
    assert list((tmp_path / "work").iterdir()) == [folder]


def test_a_model_folder_whose_links_lead_nowhere_is_made_again(tmp_path: Path) -> None:
    before, after = LocalBlobs(tmp_path / "blobs"), LocalBlobs(tmp_path / "moved")
    file = ModelFile(path="config.json", sha256=before.put(b"{}"), size_bytes=2)
    folder = materialise_model((file,), before, tmp_path / "work")
    before.path(file.sha256).rename(after.path(after.put(b"{}")))
    assert materialise_model((file,), after, tmp_path / "work") == folder
    assert (folder / "config.json").read_bytes() == b"{}"


_ORPHAN = """
import asyncio, os, sys
from pathlib import Path
from coordinator.evaluation.pool import ModelWorker
async def main():
    worker = ModelWorker(None, Path("."))
    print(await worker.run(os.getpid), flush=True)
    await asyncio.Event().wait()
if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_the_process_ends_when_the_daemon_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "daemon.py"
    script.write_text(_ORPHAN)
    daemon = await asyncio.create_subprocess_exec(sys.executable, script, stdout=asyncio.subprocess.PIPE)
    assert daemon.stdout is not None
    watched = os.pidfd_open(int(await daemon.stdout.readline()))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, ended.set)
    assert not ended.is_set()
    daemon.kill()
    await asyncio.wait_for(ended.wait(), 30)
    asyncio.get_running_loop().remove_reader(watched)
    os.close(watched)
    await daemon.communicate()


def test_the_daemon_side_imports_no_torch() -> None:
    code = (
        "import sys, coordinator.evaluation.pool, coordinator.jobs.submission, coordinator.export.exporting, "
        "coordinator.aggregation.committing, coordinator.aggregation.unmasking; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'peft')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
