"""What a site must not forget of a round, so that another process of it may go on with the same bytes.

One folder a round, its owner's only: who it is about and its secrets, the update until it is masked, the masked
payload, and of each document of the coordinator which one this site has followed. All of it is on disk before
what follows from it leaves. A process that goes on is asked for everything again and gives the same answers; asked
with another document, it refuses.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from ravan.codec.fields import DIGEST_BYTES, RUN_BYTES
from ravan.errors import ErrorReason, ProtocolError
from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.ids import Digest, RunId
from ravan.manifest.instructions import RoundRef

PROCESS_ID_BYTES: Final = 16
_ROOT_BYTES: Final = 32
_SEED_BYTES: Final = 16
_OPENING: Final = "round.json"
_FORMAT: Final = 1


class Document(StrEnum):
    """What a site follows once and for ever in a round."""

    ROSTER = "roster"
    MASK_SET = "mask set"
    SURVIVORS = "survivor set"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a round begins with at this site and keeps to its end."""

    run_id: RunId
    round_number: int
    assignment_digest: Digest
    process_id: bytes
    """Under which the coordinator knows whoever takes part."""
    root: bytes = field(repr=False)
    """All keys and shares of the round follow from it; 32 bytes."""
    seed: bytes = field(repr=False)
    """The order of the examples follows from it; 16 bytes."""

    @property
    def reference(self) -> RoundRef:
        """Return which round this is, as it was before its roster."""
        return RoundRef(
            run_id=self.run_id,
            round_number=self.round_number,
            assignment_digest=self.assignment_digest,
            roster_digest=Digest(b""),
        )


class RoundNotes:
    """The folder of one round."""

    def __init__(self, folder: Path) -> None:
        """Look at nothing yet; the folder is made by `begin`."""
        self.folder = folder

    @property
    def payload(self) -> Path:
        """Return where the masked payload is, or will be."""
        return self.folder / "payload"

    @property
    def outcome(self) -> Path:
        """Return where the update is until it is masked."""
        return self.folder / "update"

    @property
    def checkpoint(self) -> Path:
        """Return where unfinished training is."""
        return self.folder / "checkpoint"

    def begin(self, round_ref: RoundRef, process_id: bytes) -> Opening:
        """Return how the round began here, or begin it now; raise ResourceError (DISK_FULL). Blocks on the disk."""
        known = self.opening()
        if known is not None and known.assignment_digest == round_ref.assignment_digest:
            return known
        shutil.rmtree(self.folder, ignore_errors=True)  # of another assignment, or damaged
        opening = Opening(
            run_id=round_ref.run_id,
            round_number=round_ref.round_number,
            assignment_digest=round_ref.assignment_digest,
            process_id=process_id,
            root=os.urandom(_ROOT_BYTES),
            seed=os.urandom(_SEED_BYTES),
        )
        make_private_folder(self.folder)
        write_private(self.folder / _OPENING, _encode(opening))
        return opening

    def opening(self) -> Opening | None:
        """Return how the round began; None when it did not, or what was written cannot be read."""
        try:
            return _decode(json.loads((self.folder / _OPENING).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def follow(self, document: Document, digest: bytes) -> None:
        """Write down which document this site follows, unless it has.

        Raises ProtocolError (PROTOCOL_VIOLATION) when it has followed another one, ResourceError (DISK_FULL).
        """
        path, text = self.folder / document.name.lower(), digest.hex().encode()
        try:
            known = path.read_bytes()
        except FileNotFoundError:
            make_private_folder(self.folder)
            write_private(path, text)
            return
        if known != text:
            raise ProtocolError(
                f"This site has followed another {document.value} in this round, and follows no second.",
                reason=ErrorReason.PROTOCOL_VIOLATION,
                next_step="Tell HQ: its coordinator says different things about one round.",
            )

    def drop_update(self) -> None:
        """Delete the update in the clear, and what training left on the way to it."""
        for path in (self.outcome, self.checkpoint):
            path.unlink(missing_ok=True)


def find_left_round(rounds: Path) -> Opening | None:
    """Return how the round began in which a process of before has stopped; None when there is none to go on with."""
    folders = [path for path in rounds.iterdir() if path.is_dir()] if rounds.is_dir() else []
    openings = [opening for each in folders if (opening := RoundNotes(each).opening()) is not None]
    return openings[0] if len(openings) == 1 else None


def _encode(opening: Opening) -> bytes:
    values = {
        "format": _FORMAT,
        "run": opening.run_id.hex(),
        "round": opening.round_number,
        "assignment": opening.assignment_digest.hex(),
        "process": opening.process_id.hex(),
        "root": opening.root.hex(),
        "seed": opening.seed.hex(),
    }
    return json.dumps(values).encode()


def _decode(values: dict[str, Any]) -> Opening:
    number = values["round"]
    if values["format"] != _FORMAT or type(number) is not int or number < 1:
        raise ValueError("another release's, or damaged")
    return Opening(
        run_id=RunId(_bytes(values["run"], RUN_BYTES)),
        round_number=number,
        assignment_digest=Digest(_bytes(values["assignment"], DIGEST_BYTES)),
        process_id=_bytes(values["process"], PROCESS_ID_BYTES),
        root=_bytes(values["root"], _ROOT_BYTES),
        seed=_bytes(values["seed"], _SEED_BYTES),
    )


def _bytes(text: str, length: int) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != length:
        raise ValueError("damaged")
    return value
