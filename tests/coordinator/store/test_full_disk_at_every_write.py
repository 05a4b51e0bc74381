"""A real disk with room for k pages more, for every k until what is written fits: refused whole, and repeated well."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from small_disk import small_disk

from coordinator.api.blob_stream import receive_blob
from coordinator.backup.archive import write_backup
from coordinator.config import DataFolder
from coordinator.daemon.bound_ports import tell_ports
from coordinator.daemon.data_lock import hold_data_folder
from coordinator.evaluation.folders import materialise_model
from coordinator.founding import found_coordinator
from coordinator.store.blobs.local import LocalBlobs
from coordinator.store.records import TokenRecord
from coordinator.store.sql.store import open_store
from coordinator.store.staging import Staging, UploadKey
from ravan.codec.chunks import frame
from ravan.codec.references import blob_to_wire
from ravan.errors import ErrorReason, ResourceError
from ravan.ids import Digest, RunId, SiteId
from ravan.manifest.plan import ModelFile
from ravan.wire.v1 import transfer_service_pb2

__all__ = ["small_disk"]

PAGE = os.sysconf("SC_PAGE_SIZE")
DATA = os.urandom(5 * PAGE + 17)
PIECE = 2 * PAGE
DIGEST = Digest(hashlib.sha256(DATA).digest())
KEY = UploadKey(run_id=RunId(bytes(16)), round_number=1, site=SiteId("site-0"), sha256=DIGEST)


@dataclass
class Attempt:
    """Something that is written below a folder; it may be tried again."""

    folder: Path

    def prepare(self) -> None:
        """Write what is there before; there is room for it."""

    def write(self) -> None:
        """Write."""
        raise NotImplementedError

    def is_whole(self) -> bool:
        """Tell whether all of it is there."""
        raise NotImplementedError

    def may_stay(self, path: Path) -> bool:
        """Tell whether a file may be left by an attempt that failed."""
        return False

    def check_refused(self) -> None:
        """Check, once there is room, that nothing of it counts and nothing before it is lost."""


class Upload(Attempt):
    """A masked vector; what has arrived of it stays, and is gone on from."""

    def prepare(self) -> None:
        self.staging = Staging(self.folder)

    def write(self) -> None:
        stream = self.staging.open(KEY, len(DATA))
        try:
            for begin in range(stream.committed_bytes, len(DATA), PIECE):
                stream.append(begin, DATA[begin : begin + PIECE])
            stream.finish()
        finally:
            self.staging.close(KEY, stream)

    def is_whole(self) -> bool:
        return self.staging.status(KEY).complete

    def may_stay(self, path: Path) -> bool:
        return path.suffix == ".part" and DATA.startswith(path.read_bytes())


class PutBlob(Attempt):
    """A version or sums."""

    def prepare(self) -> None:
        self.blobs = LocalBlobs(self.folder)

    def write(self) -> None:
        self.blobs.put(DATA)

    def is_whole(self) -> bool:
        return self.blobs.exists(DIGEST) and self.blobs.read(DIGEST) == DATA


class ReceiveBlob(PutBlob):
    """An operator's file."""

    def write(self) -> None:
        asyncio.run(self._receive())

    async def _receive(self) -> None:
        async def chunks() -> AsyncIterator[transfer_service_pb2.Chunk]:
            for begin in range(0, len(DATA), PIECE):
                yield frame(begin, DATA[begin : begin + PIECE])

        async def accept() -> None: ...

        await receive_blob(chunks(), blob_to_wire(DIGEST, len(DATA)), self.blobs, accept)


class Record(Attempt):
    """A transaction, beside one that was committed before."""

    def prepare(self) -> None:
        self.database = self.folder / "ravan.db"
        asyncio.run(self._put("before", ""))

    def write(self) -> None:
        asyncio.run(self._put("token", DATA.hex()))

    def is_whole(self) -> bool:
        return asyncio.run(self._read()) == {"before": "", "token": DATA.hex()}

    def may_stay(self, path: Path) -> bool:
        return path.name.startswith("ravan.db-")

    def check_refused(self) -> None:
        assert asyncio.run(self._read()) == {"before": ""}

    async def _put(self, name: str, text: str) -> None:
        token = TokenRecord(token_id=name, site=SiteId(text), secret_hash=b"", created_at=0.0, expires_at=1.0)
        store = open_store(self.database)
        try:
            await store.transact("put", lambda transaction: transaction.put_token(token))
        finally:
            await store.close()

    async def _read(self) -> dict[str, str]:
        store = open_store(self.database)
        try:
            tokens = await store.transact("list", lambda transaction: transaction.list_open_tokens())
        finally:
            await store.close()
        return {token.token_id: str(token.site) for token in tokens}


class Backup(Attempt):
    """A backup of a database with a blob store."""

    def prepare(self) -> None:
        self.records = self.folder.with_name("records.db")
        asyncio.run(open_store(self.records).close())
        self.target = self.folder / "backup.tar"

    def write(self) -> None:
        write_backup(self.target, self.records, None, manifest_key=bytes(32), taken_at=0.0)

    def is_whole(self) -> bool:
        return self.target.is_file()


class Founding(Attempt):
    """A new coordinator."""

    def prepare(self) -> None:
        self.root = self.folder / "hq"

    def write(self) -> None:
        found_coordinator(self.root, ["localhost"], now=1.8e9)

    def is_whole(self) -> bool:
        return (self.root / "coordinator.toml").is_file()


class Lock(Attempt):
    """The mark of the process that holds a data folder; an empty one is none."""

    def prepare(self) -> None:
        (self.folder / "pki").mkdir()

    def write(self) -> None:
        with hold_data_folder(DataFolder(self.folder)):
            self.held = (self.folder / "daemon.lock").read_text()

    def is_whole(self) -> bool:
        return self.held == str(os.getpid())

    def may_stay(self, path: Path) -> bool:
        return path.stat().st_size == 0


class Ports(Attempt):
    """Where this machine's commands find a daemon whose port the system chose."""

    def prepare(self) -> None:
        self.path = self.folder / "daemon.json"

    def write(self) -> None:
        tell_ports(self.path, dict.fromkeys(map(str, range(2 * PAGE)), 1.0))

    def is_whole(self) -> bool:
        return self.path.is_file() and self.path.read_text().endswith("}\n")


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@dataclass
class Filler:
    """Takes all of a disk but some pages."""

    disk: Path
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.disk / "filler"

    def leave(self, pages: int) -> None:
        with suppress(OSError), self.path.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(PAGE))
        os.truncate(self.path, max(0, self.path.stat().st_size - pages * PAGE))

    def remove(self) -> None:
        self.path.unlink()


@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (Upload, 1),
        (PutBlob, 1),
        (ReceiveBlob, 1),
        (Record, 3),
        (Backup, 16),
        (Founding, 8),
        (Lock, 1),
        (Ports, 1),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_what_does_not_fit_is_refused_whole_and_fits_later(
    small_disk: Path, kind: Callable[[Path], Attempt], step: int
) -> None:
    filler, failures, pages = Filler(small_disk), 0, 0
    while True:
        folder = small_disk / str(pages)
        folder.mkdir()
        attempt = kind(folder)
        attempt.prepare()
        before = files_below(folder)
        filler.leave(pages)
        try:
            attempt.write()
        except ResourceError as error:
            refused = error
        else:
            break
        failures += 1
        assert refused.reason is ErrorReason.DISK_FULL
        assert "is full" in str(refused)
        assert refused.next_step
        left = files_below(folder) - before
        assert [path for path in left if not attempt.may_stay(path)] == []
        filler.remove()
        attempt.check_refused()
        attempt.write()
        assert attempt.is_whole()
        shutil.rmtree(folder)
        pages += step
    assert attempt.is_whole()
    assert failures > 0


@pytest.mark.parametrize("call", ["mkdir", "symlink", "rename"])
def test_a_model_folder_for_which_there_is_no_room_is_refused_and_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    blobs, work = LocalBlobs(tmp_path / "blobs"), tmp_path / "work"
    files = [ModelFile(path="config.json", sha256=blobs.put(DATA), size_bytes=len(DATA))]

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(ResourceError) as caught:
            materialise_model(files, blobs, work)
    assert caught.value.reason is ErrorReason.DISK_FULL
    assert files_below(work) == set()
    assert (materialise_model(files, blobs, work) / "config.json").read_bytes() == DATA
