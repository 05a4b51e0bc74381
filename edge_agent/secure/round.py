"""One round of secure aggregation at this site: the protocol's machine, joined with quantisation and the disk.

An update exists in the clear only here and only until it is masked. The masked payload is on disk,
readable by the owner alone, before its header exists, and so before its first byte can leave.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.training.outcome import TrainingOutcome
from ravan.errors import ErrorReason, StateError
from ravan.identity.keyfiles import make_private_folder, write_private
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.quantisation import quantise_update, rounding_source
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of
from ravan.secagg.effects import Advertise, Effect, Mask, PersistRevealed, SendReveal, SendShares, SignSurvivors, Upload
from ravan.secagg.masking import mask_vectors
from ravan.secagg.messages import (
    KeyAdvertisement,
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)

_ROOT_BYTES: Final = 32
_PAYLOAD: Final = "payload"
_REVEALED: Final = "revealed"

_Kind = TypeVar("_Kind", bound=Effect)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedUpdate:
    """A payload that may leave the site."""

    header: MaskedHeader
    path: Path


class SecureRound:
    """Lead one update through one round; every method either does its step or raises RavanError."""

    def __init__(
        self,
        *,
        assignment: Assignment,
        assignment_digest: Digest,
        index: int,
        identity_key: Ed25519PrivateKey,
        minimum_bundle_threshold: int,
        folder: Path,
        keeper: QuantisedKeeper | None = None,
    ) -> None:
        """Join as member `index`; files go to `folder`, which `close` removes.

        Raises ProtocolError when the assignment is not acceptable.
        """
        self._machine = AgentRound(
            assignment=assignment,
            assignment_digest=assignment_digest,
            index=index,
            signer=identity_key.sign,
            root=os.urandom(_ROOT_BYTES),
            policy_floor=minimum_bundle_threshold,
        )
        self._assignment = assignment
        self._assignment_digest = assignment_digest
        self._index = index
        self._folder = folder
        self._keeper = keeper
        self._update: TrainingOutcome | None = None
        self._roster: Roster | None = None

    @property
    def assignment_digest(self) -> Digest:
        """Return which assignment this is about."""
        return self._assignment_digest

    @property
    def assignment(self) -> Assignment:
        """Return what the round asks of whom."""
        return self._assignment

    @property
    def holds_clear_update(self) -> bool:
        """Tell whether the update was never masked, so that another round may have it."""
        return self._update is not None

    def finish_training(self, update: TrainingOutcome) -> KeyAdvertisement:
        """Take the update and make the round's keys."""
        advertisement = _last(self._machine.finish_training(), Advertise).advertisement
        self._update = update
        return advertisement

    def share(self, roster: Roster, roster_digest: Digest) -> SealedShares:
        """Check the roster and deal the shares of this site's secrets."""
        shares = _last(self._machine.roster(roster, roster_digest), SendShares).shares
        self._roster = roster
        return shares

    def mask(self, delivery: ShareDelivery) -> MaskedUpdate:
        """Quantise and mask the update, once, and store the payload; the update itself is dropped. Blocks."""
        job = _last(self._machine.deliver(delivery), Mask).job
        update, roster = self._update, self._roster
        self._update = None
        if update is None or roster is None:
            raise StateError("There is no update to mask.", reason=ErrorReason.WRONG_STATE)
        bundles = bundles_of(roster.bundles, self._index)
        vectors = quantise_update(
            self._assignment,
            bundles,
            update.deltas,
            update.statistics,
            rounding_source(),
            held_examples=update.held_examples,
            scores=update.scores,
        )
        if self._keeper is not None:
            self._keeper.keep(self._assignment, self._assignment_digest, bundles, update, vectors)
        payload = bytes(mask_vectors(job, vectors))
        path = self._folder / _PAYLOAD
        make_private_folder(self._folder)
        write_private(path, payload)
        effects = self._machine.masked(Digest(hashlib.sha256(payload).digest()), len(payload))
        return MaskedUpdate(header=_last(effects, Upload).header, path=path)

    def uploaded(self) -> None:
        """Note that the coordinator has the whole payload."""
        self._machine.uploaded()

    def confirm(self, survivors: SurvivorSet) -> SurvivorSignature:
        """Check and sign the survivor set."""
        return _last(self._machine.survivors(survivors), SignSurvivors).signature

    def reveal(self, request: RevealRequest) -> RevealedShares:
        """Check the request and return the shares to reveal, after a note of it is on disk."""
        effects = self._machine.reveal(request)
        for effect in effects:
            if isinstance(effect, PersistRevealed):
                make_private_folder(self._folder)
                write_private(self._folder / _REVEALED, effect.survivor_digest.hex().encode())
        return _last(effects, SendReveal).shares

    def close(self) -> None:
        """Drop secrets, update and files."""
        self._machine.close()
        self._update = self._roster = None
        shutil.rmtree(self._folder, ignore_errors=True)


def _last(effects: tuple[Effect, ...], kind: type[_Kind]) -> _Kind:
    effect = effects[-1]
    if not isinstance(effect, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(effect).__name__}")
    return effect
