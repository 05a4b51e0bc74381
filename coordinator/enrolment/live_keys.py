"""The key folder as it is now: files that were replaced are taken up without a restart."""

from __future__ import annotations

import threading
from pathlib import Path

import structlog

from coordinator.enrolment.pki import Pki, ServerFiles, load_pki, watched_files
from ravan.errors import RavanError

log = structlog.stdlib.get_logger(__name__)

_Marks = tuple[tuple[int, int, int] | None, ...]


class LiveKeys:
    """Look at the files whenever the keys are asked for; a folder in the middle of a change changes nothing yet."""

    def __init__(self, folder: Path, server: ServerFiles | None = None) -> None:
        """Read the keys; raise IdentityError as `load_pki`."""
        self._folder = folder
        self._server = server
        self._files = watched_files(folder, server)
        # handshakes ask from threads of gRPC's
        self._lock = threading.Lock()
        self._marks = self._look()
        self._pki = load_pki(folder, server)

    def current(self) -> Pki:
        """Return the newest keys that were sound."""
        with self._lock:
            marks = self._look()
            if marks != self._marks:
                self._marks = marks
                self._reload()
            return self._pki

    def _reload(self) -> None:
        try:
            self._pki = load_pki(self._folder, self._server)
        except RavanError as error:
            log.error("changed keys are not used", why=str(error), next_step=error.next_step)
        else:
            log.info("took up changed keys and certificates")

    def _look(self) -> _Marks:
        return tuple(_mark_of(path) for path in self._files)


def _mark_of(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
