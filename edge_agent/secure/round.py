"""One round of secure aggregation at this site: the protocol's machine, joined with quantisation and the disk.

An update exists in the clear only until it is masked. The masked payload is on disk, readable by the owner alone,
before its header exists, and so before its first byte can leave. A round that another process of this site has begun
goes on with what that one wrote down (`edge_agent.secure.notes`): nothing is drawn or masked a second time.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.secure.notes import Document, Opening, RoundNotes
from edge_agent.training.outcome import TrainingOutcome
from ravan.errors import ErrorReason, StateError
from ravan.identity.keyfiles import write_private
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.quantisation import quantise_update, rounding_source
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of
from ravan.secagg.effects import Advertise, Effect, Mask, PersistRevealed, SendReveal, SendShares, SignSurvivors, Upload
from ravan.secagg.masking import MaskJob, mask_vectors
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
from ravan.secagg.transcript import mask_set_digest

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
        notes: RoundNotes,
        opening: Opening,
        keeper: QuantisedKeeper | None = None,
    ) -> None:
        """Join as member `index`, or go on as it; `close` removes the folder of `notes`.

        Raises ProtocolError when the assignment is not acceptable.
        """
        self._machine = AgentRound(
            assignment=assignment,
            assignment_digest=assignment_digest,
            index=index,
            signer=identity_key.sign,
            root=opening.root,
            policy_floor=minimum_bundle_threshold,
        )
        self._assignment = assignment
        self._assignment_digest = assignment_digest
        self._index = index
        self._notes = notes
        self._seed = opening.seed
        self._keeper = keeper
        self._update: TrainingOutcome | None = None
        self._roster: Roster | None = None
        self._roster_digest = Digest(b"")

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

    @property
    def is_masked(self) -> bool:
        """Tell whether an update was masked already, by this process or one before it."""
        return self._notes.payload.exists()

    def finish_training(self, update: TrainingOutcome | None) -> KeyAdvertisement:
        """Take the update, None when it is masked already, and make the round's keys."""
        advertisement = _last(self._machine.finish_training(), Advertise).advertisement
        self._update = update
        return advertisement

    def share(self, roster: Roster, roster_digest: Digest) -> SealedShares:
        """Check the roster and deal the shares of this site's secrets. Blocks on the disk."""
        shares = _last(self._machine.roster(roster, roster_digest), SendShares).shares
        self._notes.follow(Document.ROSTER, roster_digest)
        self._roster, self._roster_digest = roster, roster_digest
        return shares

    def mask(self, delivery: ShareDelivery) -> MaskedUpdate:
        """Quantise and mask the update, once, and store the payload; the update itself is dropped. Blocks."""
        job = _last(self._machine.deliver(delivery), Mask).job
        self._notes.follow(
            Document.MASK_SET, mask_set_digest(self._assignment_digest, self._roster_digest, delivery.mask_set)
        )
        path = self._notes.payload
        if self.is_masked:
            content = path.read_bytes()
        else:
            content = self._masked_payload(job)
            write_private(path, content)
        self._update = None
        self._notes.drop_update()
        effects = self._machine.masked(Digest(hashlib.sha256(content).digest()), len(content))
        return MaskedUpdate(header=_last(effects, Upload).header, path=path)

    def _masked_payload(self, job: MaskJob) -> bytes:
        update, roster = self._update, self._roster
        if update is None or roster is None:
            raise StateError("There is no update to mask.", reason=ErrorReason.WRONG_STATE)
        bundles = bundles_of(roster.bundles, self._index)
        vectors = quantise_update(
            self._assignment,
            bundles,
            update.deltas,
            update.statistics,
            rounding_source(self._seed),
            held_examples=update.held_examples,
            scores=update.scores,
        )
        if self._keeper is not None:
            self._keeper.keep(self._assignment, self._assignment_digest, bundles, update, vectors)
        return bytes(mask_vectors(job, vectors))

    def uploaded(self) -> None:
        """Note that the coordinator has the whole payload."""
        self._machine.uploaded()

    def confirm(self, survivors: SurvivorSet) -> SurvivorSignature:
        """Check and sign the survivor set, after a note of it is on disk."""
        signature = _last(self._machine.survivors(survivors), SignSurvivors).signature
        # Ed25519 signs the same set by the same bytes, and another by others.
        self._notes.follow(Document.SURVIVORS, hashlib.sha256(signature.signature).digest())
        return signature

    def reveal(self, request: RevealRequest) -> RevealedShares:
        """Check the request and return the shares to reveal, after a note of it is on disk."""
        effects = self._machine.reveal(request)
        for effect in effects:
            if isinstance(effect, PersistRevealed):
                write_private(self._notes.folder / _REVEALED, effect.survivor_digest.hex().encode())
        return _last(effects, SendReveal).shares

    def close(self) -> None:
        """Drop secrets, update and files."""
        self._machine.close()
        self._update = self._roster = None
        shutil.rmtree(self._notes.folder, ignore_errors=True)


def _last(effects: tuple[Effect, ...], kind: type[_Kind]) -> _Kind:
    effect = effects[-1]
    if not isinstance(effect, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(effect).__name__}")
    return effect
