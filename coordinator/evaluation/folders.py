"""Base models as folders with their proper file names, made of links to blobs."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from coordinator.store.blobs.base import BlobStore
from ravan.codec.documents import model_digest
from ravan.disk import room_in
from ravan.manifest.plan import ModelFile


def materialise_model(files: Sequence[ModelFile], blobs: BlobStore, work_dir: Path) -> Path:
    """Return a folder under `work_dir` that holds the model's files by name; made when it is not there.

    Blocks on disk. Raise TransferError BLOB_MISSING when a file is not in the store, ResourceError DISK_FULL.
    """
    folder = work_dir / model_digest(files).hex()
    # Asked for even where the folder is there: what its links lead to may be copies that went to make room.
    targets = {file.path: blobs.path(file.sha256).resolve() for file in files}
    if folder.is_dir():
        if all((folder / name).exists() for name in targets):
            return folder
        # The blobs have moved since.
        shutil.rmtree(folder)
    with room_in(work_dir):
        work_dir.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=work_dir))
        try:
            for name, target in targets.items():
                (draft / name).symlink_to(target)
            os.rename(draft, folder)
        except OSError:
            shutil.rmtree(draft, ignore_errors=True)
            # Another caller may have been faster; then its folder is as good as ours.
            if not folder.is_dir():
                raise
    return folder
