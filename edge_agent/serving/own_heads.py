"""Where a PC's own heads lie: one folder a job, each set good for the one version that it was trained on top of."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

from edge_agent.serving.kept import KeptModel, Mark, mark_of, state_path, write_version
from ravan.errors import ErrorReason, ModelError, StateError
from ravan.ids import Digest

PERSONAL_FOLDER: Final = "personal"
"""In an agent's state."""

_FACTS: Final = "heads.json"


class OwnHeads:
    """A folder of model states that no message carries. Every method blocks on the disk."""

    def __init__(self, root: Path) -> None:
        """Name the folder, which is made when there is something to keep."""
        self._root = root

    def keep(self, kept: KeptModel, state: bytes) -> None:
        """Make these bytes the PC's own state of a job, in place of an earlier one."""
        folder, digest = self._folder(kept), Digest(hashlib.sha256(state).digest())
        facts = {"version": kept.state_digest.hex(), "round": kept.round_number, "state_digest": digest.hex()}
        write_version(folder, digest, state, folder / _FACTS, json.dumps(facts, indent=2).encode() + b"\n")

    def are_for(self, kept: KeptModel) -> bool:
        """Tell whether what is kept was trained on top of this version."""
        return _belong(self._facts(kept), kept)

    def mark(self) -> Mark:
        """Return what differs once heads were kept or dropped; nothing is read for it."""
        return mark_of(self._root.glob(f"*/{_FACTS}"))

    def find(self, kept: KeptModel) -> bytes:
        """Return the PC's own state for this version.

        Raise StateError NOT_FOUND where there is none or it is for another version, ModelError where it is damaged.
        """
        facts = self._facts(kept)
        if not _belong(facts, kept):
            raise _none_for(kept, facts)
        try:
            digest = bytes.fromhex(facts["state_digest"])
            state = state_path(self._folder(kept), digest).read_bytes()
        except (OSError, ValueError, KeyError, TypeError):
            digest, state = b"", b""
        if hashlib.sha256(state).digest() != digest:
            raise ModelError(
                f"This PC's own heads for '{kept.plan.job_name}' are gone or damaged.",
                reason=ErrorReason.HASH_MISMATCH,
                next_step=f"Train them again: `ravan-agent personalise {kept.plan.job_name}`.",
            )
        return state

    def drop(self, kept: KeptModel) -> None:
        """Forget what there is of a job."""
        shutil.rmtree(self._folder(kept), ignore_errors=True)

    def _facts(self, kept: KeptModel) -> dict[str, Any]:
        try:
            facts = json.loads((self._folder(kept) / _FACTS).read_bytes())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def _folder(self, kept: KeptModel) -> Path:
        # The shelf let no id pass that names no folder.
        return self._root / kept.plan.job_id


def _belong(facts: dict[str, Any], kept: KeptModel) -> bool:
    return bool(facts.get("version") == kept.state_digest.hex())


def _none_for(kept: KeptModel, facts: dict[str, Any]) -> StateError:
    name = kept.plan.job_name
    of = f"are on top of round {facts.get('round')}, and the version is of round {kept.round_number} by now"
    return StateError(
        f"This PC's own heads for '{name}' {of}." if facts else f"This PC has no heads of its own for '{name}'.",
        reason=ErrorReason.NOT_FOUND,
        next_step=f"Train them: `ravan-agent personalise {name}`.",
    )
