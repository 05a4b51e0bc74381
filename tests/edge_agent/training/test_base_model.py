"""The base model's folder, the one model in memory, and bases that differ on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_jobs import TinyJob, tiny_job

from edge_agent.training.base_model import ModelSlot
from edge_agent.training.model_folder import assemble_model_folder, least_loaded_bytes
from ravan.adapters.basis import Basis, Directions, basis_digest, draw_basis, drawn_bases, encode_basis
from ravan.adapters.directions import directions_in, encode_directions
from ravan.adapters.planned_bases import BasisFiles, differing_matrices, planned_bases
from ravan.codec.documents import model_digest
from ravan.errors import TransferError
from ravan.ids import Digest
from ravan.manifest.plan import BasisKind, JobPlan, Precision


def blobs_of(job: TinyJob, cache: Path) -> dict[str, Path]:
    """Files as downloads leave them: named by hash."""
    cache.mkdir()
    paths = {}
    for file in job.plan.model_files:
        paths[file.path] = cache / file.sha256.hex()
        paths[file.path].write_bytes((job.folder / file.path).read_bytes())
    return paths


def test_a_folder_with_proper_names_and_no_second_copy(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    blobs = blobs_of(job, tmp_path / "cache")
    folder = assemble_model_folder(job.plan, blobs, tmp_path / "models")
    assert folder == tmp_path / "models" / model_digest(job.plan.model_files).hex()
    assert {path.name for path in folder.iterdir()} == set(blobs)
    assert all((folder / name).samefile(blob) for name, blob in blobs.items())
    assert assemble_model_folder(job.plan, blobs, tmp_path / "models") == folder
    assert [path.name for path in (tmp_path / "models").iterdir()] == [folder.name]


@pytest.mark.parametrize(("precision", "width"), [(Precision.FLOAT32, 4), (Precision.BFLOAT16, 2), (Precision.INT8, 1)])
def test_weights_take_what_the_plans_precision_gives_them_and_not_their_file(
    tmp_path: Path, precision: Precision, width: int
) -> None:
    job = tiny_job(tmp_path)
    plan = dataclasses.replace(job.plan, precision=precision)
    stored = sum(tensor.numel() for tensor in load_file(job.folder / "model.safetensors").values())
    assert stored > 1000
    assert least_loaded_bytes(plan, job.folder) == stored * width


def test_a_damaged_file_of_weights_is_left_to_loading(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    (job.folder / "model.safetensors").write_bytes(b"\xff" * 100)
    assert least_loaded_bytes(job.plan, job.folder) == 0


def test_a_blob_that_was_fetched_again_is_linked_anew(tmp_path: Path) -> None:
    job = tiny_job(tmp_path)
    blobs = blobs_of(job, tmp_path / "cache")
    folder = assemble_model_folder(job.plan, blobs, tmp_path / "models")
    blob = blobs["config.json"]
    content = blob.read_bytes()
    blob.unlink()
    blob.write_bytes(content)
    assemble_model_folder(job.plan, blobs, tmp_path / "models")
    assert (folder / "config.json").samefile(blob)


def test_without_links_it_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("this file system knows no links")

    monkeypatch.setattr(os, "link", no_links)
    job = tiny_job(tmp_path)
    folder = assemble_model_folder(job.plan, blobs_of(job, tmp_path / "cache"), tmp_path / "models")
    assert (folder / "config.json").read_bytes() == (job.folder / "config.json").read_bytes()


def test_the_model_comes_in_the_plans_precision_and_anew_in_another(tmp_path: Path) -> None:
    job, slot = tiny_job(tmp_path), ModelSlot()
    narrow = slot.load(job.folder, dataclasses.replace(job.plan, precision=Precision.BFLOAT16)).model
    types = {name: parameter.dtype for name, parameter in narrow.named_parameters()}
    wide = {name for name, dtype in types.items() if dtype is torch.float32}
    assert wide == {dense.name for dense in job.plan.dense}
    assert set(types.values()) == {torch.float32, torch.bfloat16}
    assert {parameter.dtype for parameter in slot.load(job.folder, job.plan).model.parameters()} == {torch.float32}


def test_one_model_at_a_time(tmp_path: Path) -> None:
    job, slot = tiny_job(tmp_path), ModelSlot()
    assert not slot.loaded
    first = slot.load(job.folder, job.plan)
    assert slot.load(job.folder, job.plan) is first
    training = dataclasses.replace(job.plan.training, labels=("a", "b"))
    other = slot.load(job.folder, dataclasses.replace(job.plan, training=training))
    assert other.model.get_parameter("classifier.bias").shape == (2,)
    assert slot.load(job.folder, job.plan) is not first
    slot.drop()
    assert not slot.loaded


def test_bases_that_agree_need_no_download(tmp_path: Path) -> None:
    assert differing_matrices(tiny_job(tmp_path).plan) == ()


@pytest.mark.parametrize("rank", [0, 2])
def test_a_differing_basis_comes_from_its_file(tmp_path: Path, rank: int) -> None:
    """Also where the matrix has a rank of its own."""
    plan = tiny_job(tmp_path).plan
    odd = dataclasses.replace(plan.matrices[2], basis_digest=Digest(bytes(32)), rank=rank)
    plan = dataclasses.replace(plan, matrices=(*plan.matrices[:2], odd, plan.matrices[3]))
    assert differing_matrices(plan) == (odd,)
    settings = dataclasses.replace(plan.adapter, rank=rank or plan.adapter.rank)
    drawn = draw_basis(settings, 2, odd.out_features, odd.in_features)
    theirs = Basis(b=drawn.b + np.float32(2**-20), a=drawn.a)
    file = tmp_path / "basis"
    file.write_bytes(encode_basis(theirs))
    source = planned_bases(plan, BasisFiles(whole={2: file}))
    assert np.array_equal(source(odd).b, theirs.b)
    same = draw_basis(plan.adapter, 1, odd.out_features, odd.in_features)
    assert np.array_equal(source(plan.matrices[1]).b, same.b)
    file.write_bytes(b"short")
    with pytest.raises(TransferError):
        source(odd)


def led(plan: JobPlan, file: Path, seed: int) -> JobPlan:
    """Return the plan with bases that lead with some directions, which are written into a file."""
    generator = np.random.default_rng(seed)
    plan = dataclasses.replace(plan, adapter=dataclasses.replace(plan.adapter, basis=BasisKind.ALIGNED))
    found = {
        matrix.ordinal: Directions(
            left=np.linalg.qr(generator.standard_normal((matrix.out_features, 2)))[0].astype(np.float32),
            right=np.linalg.qr(generator.standard_normal((matrix.in_features, 2)))[0].T.astype(np.float32),
        )
        for matrix in plan.matrices
    }
    content = encode_directions(found)
    file.write_bytes(content)
    source = directions_in(file)
    settled = [
        dataclasses.replace(m, basis_digest=basis_digest(drawn_bases(plan.adapter, source)(m))) for m in plan.matrices
    ]
    return dataclasses.replace(plan, matrices=tuple(settled), directions=Digest(hashlib.sha256(content).digest()))


def test_bases_that_lead_with_directions_are_drawn_from_their_file(tmp_path: Path) -> None:
    file = tmp_path / "directions"
    plan = led(tiny_job(tmp_path).plan, file, 1)
    assert differing_matrices(plan, file) == ()
    first = plan.matrices[0]
    basis = planned_bases(plan, BasisFiles(directions=file))(first)
    lead = directions_in(file)(first)
    columns, rows = np.concatenate(list(basis.b), axis=1), np.concatenate(list(basis.a))
    assert np.allclose(np.abs(columns[:, :2].T @ lead.left), np.eye(2), atol=1e-5)
    assert np.allclose(np.abs(rows[:2] @ lead.right.T), np.eye(2), atol=1e-5)
    other = tmp_path / "other"
    led(tiny_job(tmp_path / "again").plan, other, 2)
    assert differing_matrices(plan, other) == plan.matrices
    with pytest.raises(ValueError, match="need directions"):
        planned_bases(plan, BasisFiles())(first)
