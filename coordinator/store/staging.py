"""Masked vectors on their way in: kept on disk from the first byte until their round is committed.

The length of a file is what was committed, so a transfer goes on after any interruption. A file
gets the name of a whole one only after its hash was right. All methods block on disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from coordinator.store.quota import DiskQuota
from ravan.codec.chunks import content_digest, hash_mismatch, offset_mismatch
from ravan.disk import move_durably, room_in
from ravan.errors import ErrorReason, TransferError
from ravan.ids import Digest, RunId, SiteId


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadKey:
    """Names one upload; a site that sends other content begins another upload."""

    run_id: RunId
    round_number: int
    site: SiteId
    sha256: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadStatus:
    """How far an upload is."""

    committed_bytes: int
    complete: bool


class StagedUpload:
    """One upload that is open for writing; its methods may be called from any thread, one stream at a time."""

    def __init__(self, place: Path, whole: Path, sha256: Digest, size_bytes: int, quota: DiskQuota) -> None:
        """Continue the file at `place`; use `Staging.open`."""
        self._quota = quota
        self._place = place
        self._whole = whole
        self._sha256 = sha256
        self._size_bytes = size_bytes
        self._lock = Lock()
        self._file: BinaryIO | None = place.open("ab", buffering=0)
        self.appended_bytes = 0
        """What this stream has added."""

    @property
    def committed_bytes(self) -> int:
        """Return how much is stored."""
        return self._place.stat().st_size

    def append(self, offset: int, data: bytes) -> None:
        """Write `data` at `offset`, which must be where the file ends.

        Raises TransferError (OFFSET_MISMATCH, TOO_LARGE), ResourceError (DISK_FULL); the file then
        ends where it did before.
        """
        with self._lock, room_in(self._place.parent):
            file = self._writable()
            end = file.seek(0, os.SEEK_END)
            if offset != end:
                raise offset_mismatch(end, offset)
            if end + len(data) > self._size_bytes:
                raise TransferError(
                    f"More than the announced {self._size_bytes} bytes arrived.", reason=ErrorReason.TOO_LARGE
                )
            self._quota.claim(len(data))
            _write_all(file, end, data)
            self.appended_bytes += len(data)

    def finish(self) -> Path:
        """Synchronise and check the whole file, and return its path.

        Raises TransferError: OFFSET_MISMATCH when bytes are missing, HASH_MISMATCH when it is not the
        announced content; the file is then removed, so that the sender begins anew.
        """
        with self._lock, room_in(self._place.parent):
            file = self._writable()
            end = file.seek(0, os.SEEK_END)
            if end != self._size_bytes:
                raise offset_mismatch(end, self._size_bytes)
            self._release(file)
            with self._place.open("rb") as content:
                right = content_digest(content) == self._sha256
            if not right:
                self._place.unlink()
                raise hash_mismatch(self._sha256)
            move_durably(self._place, self._whole)
            return self._whole

    def close(self) -> None:
        """Synchronise what has arrived and let go of the file; may be called again."""
        with self._lock:
            if self._file is not None:
                self._release(self._file)

    def _writable(self) -> BinaryIO:
        if self._file is None:
            raise TransferError(
                "This upload is over: its round has ended, or a newer stream of the same site took it over.",
                reason=ErrorReason.OFFSET_MISMATCH,
                next_step="Ask how much is stored and go on from there.",
            )
        return self._file

    def _release(self, file: BinaryIO) -> None:
        self._file = None
        try:
            os.fsync(file.fileno())
        finally:
            file.close()


class Staging:
    """The folder of all uploads: `run/round/site/hash`."""

    def __init__(self, root: Path, quota: DiskQuota | None = None) -> None:
        """Use or make the folder, readable by its owner alone; without a quota the disk alone bounds it."""
        self._root = root
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._quota = quota or DiskQuota(root)
        self._lock = Lock()
        self._streams: dict[UploadKey, StagedUpload] = {}

    def status(self, key: UploadKey) -> UploadStatus:
        """Tell how far an upload is; 0 bytes when nothing of it is stored."""
        if self._whole(key).is_file():
            return UploadStatus(committed_bytes=self._whole(key).stat().st_size, complete=True)
        place = self._part(key)
        return UploadStatus(committed_bytes=place.stat().st_size if place.is_file() else 0, complete=False)

    def whole(self, key: UploadKey) -> Path | None:
        """Return the path of a complete upload, else None."""
        path = self._whole(key)
        return path if path.is_file() else None

    def path_of(self, run_id: RunId, round_number: int, site: SiteId, sha256: Digest) -> Path:
        """Return where an upload lies once it is complete."""
        return self._whole(UploadKey(run_id=run_id, round_number=round_number, site=site, sha256=sha256))

    def open(self, key: UploadKey, size_bytes: int) -> StagedUpload:
        """Begin or continue an upload of known length; an older stream of the same upload is cut off.

        Unfinished other uploads of the same site and round are removed: a site sends one vector a round.
        Raises ResourceError (DISK_FULL) before anything is written when the rest would not fit.
        """
        place = self._part(key)
        with self._lock, room_in(self._root):
            self._let_go([each for each in self._streams if _sender(each) == _sender(key)])
            for other in place.parent.glob("*.part"):
                if other != place:
                    other.unlink()
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = place.stat().st_size if place.is_file() else 0
            if held > size_bytes:
                place.unlink()
                held = 0
            self._quota.foresee(size_bytes - held)
            stream = StagedUpload(place, self._whole(key), key.sha256, size_bytes, self._quota)
            self._streams[key] = stream
            return stream

    def close(self, key: UploadKey, stream: StagedUpload) -> None:
        """Close a stream that `open` returned."""
        stream.close()
        with self._lock:
            if self._streams.get(key) is stream:
                del self._streams[key]

    def discard_round(self, run_id: RunId, before_round: int) -> None:
        """Remove all uploads of the run's rounds before `before_round`."""
        # Under the lock, so that no late upload fills a folder that is being removed.
        with self._lock:
            self._let_go([key for key in self._streams if key.run_id == run_id and key.round_number < before_round])
            for folder in self._run(run_id).glob("*"):
                if int(folder.name) < before_round:
                    shutil.rmtree(folder, ignore_errors=True)

    def runs(self) -> Sequence[RunId]:
        """Return the runs of which anything is staged."""
        return [RunId(bytes.fromhex(folder.name)) for folder in self._root.iterdir()]

    def discard_run(self, run_id: RunId) -> None:
        """Remove all uploads of a run."""
        with self._lock:
            self._let_go([key for key in self._streams if key.run_id == run_id])
            shutil.rmtree(self._run(run_id), ignore_errors=True)

    def _let_go(self, keys: Sequence[UploadKey]) -> None:
        for key in keys:
            # What cannot be synchronised any more is continued from where the file ends, or removed.
            with suppress(OSError):
                self._streams.pop(key).close()

    def _run(self, run_id: RunId) -> Path:
        return self._root / run_id.hex()

    def _part(self, key: UploadKey) -> Path:
        return self._run(key.run_id) / str(key.round_number) / key.site / f"{key.sha256.hex()}.part"

    def _whole(self, key: UploadKey) -> Path:
        return self._part(key).with_suffix(".whole")


def _sender(key: UploadKey) -> tuple[RunId, int, SiteId]:
    return key.run_id, key.round_number, key.site


def _write_all(file: BinaryIO, end: int, data: bytes) -> None:
    """Write all of `data` at the file's end, or leave the file as it was."""
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) :]
    except OSError:
        file.truncate(end)
        raise
