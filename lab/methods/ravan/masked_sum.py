"""The same sum through the whole protocol: the agents' and the coordinator's own machines, in one process.

A simulation gains nothing from it but the proof that nothing changes; it costs what masking costs.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Bundle
from ravan.secagg.agent import AgentRound
from ravan.secagg.bundles import bundles_of
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.effects import Advertise, Effect, Mask, SendReveal, SendShares, SignSurvivors, Upload
from ravan.secagg.masking import mask_vectors
from ravan.secagg.packing import Elements
from ravan.secagg.unmask import Unmasked, unmask

Quantise = Callable[[int, tuple[Bundle, ...]], Mapping[int, Elements]]
"""From a member's index and its bundles to the vector of each, by bundle id."""

_ASSIGNMENT = Digest(hashlib.sha256(b"lab/assignment").digest())
_ROSTER = Digest(hashlib.sha256(b"lab/roster").digest())
"""Nothing is signed or sent here; every round draws new secrets."""

_Wanted = TypeVar("_Wanted", bound=Effect)
_Value = TypeVar("_Value")


def sum_masked(assignment: Assignment, quantise: Quantise) -> Unmasked:
    """Return the unmasked sums of a round that nobody leaves.

    Members get identities of their own. Raise ProtocolError for terms that agents would refuse, such as fewer than
    three members or a lower threshold, and RuntimeError where the coordinator's machine ends the round.
    """
    signers = {member.index: Ed25519PrivateKey.generate() for member in assignment.members}
    members = tuple(
        replace(member, identity_key=signers[member.index].public_key().public_bytes_raw())
        for member in assignment.members
    )
    return _Round(replace(assignment, members=members), signers).run(quantise)


@dataclass(slots=True)
class _Round:
    assignment: Assignment
    signers: Mapping[int, Ed25519PrivateKey] = field(repr=False)

    def run(self, quantise: Quantise) -> Unmasked:
        """Lead all members through all phases."""
        coordinator = CoordinatorRound(assignment=self.assignment, assignment_digest=_ASSIGNMENT)
        agents = {index: self._agent(index) for index in self.signers}
        for index, agent in agents.items():
            coordinator.advertised(index, _last(agent.finish_training(), Advertise).advertisement)
        [roster] = _each(coordinator.close_advertise())
        coordinator.rosters_published([_ROSTER])
        for index, agent in agents.items():
            coordinator.shares(index, _last(agent.roster(roster, _ROSTER), SendShares).shares)
        payloads: dict[int, bytes] = {}
        for index, delivery in _settled(coordinator.close_sharing()).items():
            job = _last(agents[index].deliver(delivery), Mask).job
            payloads[index] = bytes(mask_vectors(job, dict(quantise(index, bundles_of(roster.bundles, index)))))
            digest = Digest(hashlib.sha256(payloads[index]).digest())
            header = _last(agents[index].masked(digest, len(payloads[index])), Upload).header
            coordinator.verify_upload(index, header)
            coordinator.uploaded(index, header)
            agents[index].uploaded()
        [survivors] = _each(coordinator.close_upload())
        for index in survivors.survivors:
            coordinator.survivor_signature(index, _last(agents[index].survivors(survivors), SignSurvivors).signature)
        [request] = _each(coordinator.close_confirmation())
        for index in survivors.survivors:
            coordinator.revealed(index, _last(agents[index].reveal(request), SendReveal).shares)
        [work] = _each(coordinator.close_reveal())
        return unmask(work, lambda index: io.BytesIO(payloads[index]))

    def _agent(self, index: int) -> AgentRound:
        return AgentRound(
            assignment=self.assignment,
            assignment_digest=_ASSIGNMENT,
            index=index,
            signer=self.signers[index].sign,
            root=os.urandom(32),
        )


def _each(outcome: Sequence[_Value] | Mapping[int, _Value] | Abort) -> list[_Value]:
    """Return what the groups of a round go on with, each once; a small round has one group."""
    if isinstance(outcome, Abort):
        raise _ended(outcome)
    values = list(outcome.values()) if isinstance(outcome, Mapping) else list(outcome)
    return [value for place, value in enumerate(values) if not any(value is other for other in values[:place])]


def _settled(outcome: _Value | Abort) -> _Value:
    if isinstance(outcome, Abort):
        raise _ended(outcome)
    return outcome


def _ended(abort: Abort) -> RuntimeError:
    return RuntimeError(f"the protocol ends this round: {abort}")


def _last(effects: Sequence[Effect], kind: type[_Wanted]) -> _Wanted:
    effect = effects[-1]
    if not isinstance(effect, kind):
        raise TypeError(f"expected {kind.__name__}, not {effect}")
    return effect
