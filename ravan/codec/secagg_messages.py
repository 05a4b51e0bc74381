"""Messages of secure aggregation: agents' submissions, upload headers, and what the coordinator sends back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ravan.codec import fields
from ravan.codec.references import blob_from_wire, blob_to_wire, round_from_wire, round_to_wire
from ravan.codec.rounds import entry_from_wire
from ravan.manifest.assignment import MAX_MEMBERS
from ravan.manifest.instructions import RoundRef
from ravan.manifest.roster import RosterEntry
from ravan.secagg.messages import (
    KeyAdvertisement,
    MaskedHeader,
    RevealedShares,
    RevealRequest,
    SealedShares,
    SeedShare,
    SelfMaskShares,
    ShareDelivery,
    SurvivorSet,
    SurvivorSignature,
)
from ravan.wire.v1 import round_pb2, secagg_pb2

SHARE_BYTES = 33
"""Length of one Shamir share."""

CIPHERTEXT_LIMIT = 64 << 10
"""Most bytes of one sealed share; a share for each of 16 bundles takes under 1 KiB."""

AgentMessage = KeyAdvertisement | SealedShares | SurvivorSignature | RevealedShares
"""Everything that an agent submits in one piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One agent's message with the round and the member that it is from."""

    round: RoundRef
    index: int
    """Member index; the caller checks that it is the certificate's site."""
    message: AgentMessage


def submission_to_wire(value: Submission) -> secagg_pb2.SecureAggregationMessage:
    """Convert an agent's message."""
    wire = secagg_pb2.SecureAggregationMessage(round=round_to_wire(value.round))
    message = value.message
    if isinstance(message, RosterEntry):
        wire.advertisement.CopyFrom(_advertisement_to_wire(message))
    elif isinstance(message, SealedShares):
        shares = _sealed_to_wire(message.ciphertexts)
        wire.shares.CopyFrom(secagg_pb2.SealedShares(index=value.index, shares=shares))
    elif isinstance(message, SurvivorSignature):
        wire.survivor_signature.CopyFrom(_signature_to_wire(message))
    else:
        wire.reveal.CopyFrom(_reveal_to_wire(value.index, message))
    return wire


def submission_from_wire(wire: secagg_pb2.SecureAggregationMessage) -> Submission:
    """Read an agent's message; raise ProtocolError (MALFORMED)."""
    body = wire.WhichOneof("body")
    round_ref = round_from_wire(wire.round, with_roster=body != "advertisement")
    index, message = _body_from_wire(wire, body)
    return Submission(round=round_ref, index=fields.ranged(index, 0, MAX_MEMBERS - 1, "member index"), message=message)


def encode_submission(value: Submission) -> bytes:
    """Serialise an agent's message."""
    return submission_to_wire(value).SerializeToString(deterministic=True)


def decode_submission(data: bytes) -> Submission:
    """Read `encode_submission`'s bytes; raise ProtocolError (MALFORMED)."""
    return submission_from_wire(fields.parse(secagg_pb2.SecureAggregationMessage, data, "message"))


def encode_header(round_ref: RoundRef, value: MaskedHeader) -> bytes:
    """Serialise the header of a masked vector."""
    return header_to_wire(round_ref, value).SerializeToString(deterministic=True)


def decode_header(data: bytes) -> tuple[RoundRef, MaskedHeader]:
    """Read `encode_header`'s bytes; raise ProtocolError (MALFORMED)."""
    return header_from_wire(fields.parse(secagg_pb2.MaskedVectorHeader, data, "header"))


def header_to_wire(round_ref: RoundRef, value: MaskedHeader) -> secagg_pb2.MaskedVectorHeader:
    """Convert the header of a masked vector."""
    return secagg_pb2.MaskedVectorHeader(
        round=round_to_wire(round_ref),
        index=value.index,
        bundle_ids=value.bundles,
        payload=blob_to_wire(value.sha256, value.size_bytes),
        signature=value.signature,
        mask_set_digest=value.mask_set_digest,
    )


def header_from_wire(wire: secagg_pb2.MaskedVectorHeader) -> tuple[RoundRef, MaskedHeader]:
    """Read the header of a masked vector; raise ProtocolError (MALFORMED)."""
    sha256, size_bytes = blob_from_wire(wire.payload)
    header = MaskedHeader(
        index=fields.ranged(wire.index, 0, MAX_MEMBERS - 1, "member index"),
        mask_set_digest=fields.digest(wire.mask_set_digest, "mask set digest"),
        bundles=fields.ascending(wire.bundle_ids, "bundles"),
        size_bytes=size_bytes,
        sha256=sha256,
        signature=fields.fixed(wire.signature, fields.SIGNATURE_BYTES, "signature of the masked vector"),
    )
    return round_from_wire(wire.round), header


def delivery_to_wire(round_ref: RoundRef, value: ShareDelivery) -> secagg_pb2.ShareDelivery:
    """Convert the shares for one member."""
    return secagg_pb2.ShareDelivery(
        round=round_to_wire(round_ref), dealers=value.mask_set, shares=_sealed_to_wire(value.ciphertexts)
    )


def delivery_from_wire(wire: secagg_pb2.ShareDelivery) -> tuple[RoundRef, ShareDelivery]:
    """Read the shares for one member; raise ProtocolError (MALFORMED)."""
    dealers = fields.ascending(wire.dealers, "dealers")
    return round_from_wire(wire.round), ShareDelivery(mask_set=dealers, ciphertexts=_sealed_from_wire(wire.shares))


def survivors_to_wire(round_ref: RoundRef, value: SurvivorSet) -> secagg_pb2.SurvivorSet:
    """Convert a survivor set."""
    return secagg_pb2.SurvivorSet(
        round=round_to_wire(round_ref), survivors=value.survivors, approved_bundles=value.bundles
    )


def survivors_from_wire(wire: secagg_pb2.SurvivorSet) -> tuple[RoundRef, SurvivorSet]:
    """Read a survivor set; raise ProtocolError (MALFORMED)."""
    survivors = fields.ascending(wire.survivors, "survivors")
    bundles = fields.ascending(wire.approved_bundles, "approved bundles")
    return round_from_wire(wire.round), SurvivorSet(survivors=survivors, bundles=bundles)


def reveal_request_to_wire(round_ref: RoundRef, value: RevealRequest) -> secagg_pb2.RevealRequest:
    """Convert a request to reveal."""
    return secagg_pb2.RevealRequest(
        survivors=survivors_to_wire(round_ref, value.survivor_set),
        signatures=map(_signature_to_wire, value.signatures),
    )


def reveal_request_from_wire(wire: secagg_pb2.RevealRequest) -> tuple[RoundRef, RevealRequest]:
    """Read a request to reveal; raise ProtocolError (MALFORMED)."""
    round_ref, survivor_set = survivors_from_wire(wire.survivors)
    signatures = tuple(map(_signature_from_wire, wire.signatures))
    fields.ascending([signature.index for signature in signatures], "signers")
    return round_ref, RevealRequest(survivor_set=survivor_set, signatures=signatures)


def _body_from_wire(wire: secagg_pb2.SecureAggregationMessage, body: str | None) -> tuple[int, AgentMessage]:
    if body == "advertisement":
        return wire.advertisement.index, _advertisement_from_wire(wire.advertisement)
    if body == "shares":
        return wire.shares.index, SealedShares(ciphertexts=_sealed_from_wire(wire.shares.shares))
    if body == "survivor_signature":
        return wire.survivor_signature.index, _signature_from_wire(wire.survivor_signature)
    if body == "reveal":
        return wire.reveal.index, _reveal_from_wire(wire.reveal)
    raise fields.malformed("The message of secure aggregation is empty or of an unknown kind.")


def _advertisement_to_wire(value: KeyAdvertisement) -> secagg_pb2.KeyAdvertisement:
    return secagg_pb2.KeyAdvertisement(
        index=value.index, mask_key=value.mask_key, channel_key=value.channel_key, signature=value.signature
    )


def _advertisement_from_wire(wire: secagg_pb2.KeyAdvertisement) -> KeyAdvertisement:
    return entry_from_wire(
        round_pb2.RosterEntry(
            index=wire.index, mask_key=wire.mask_key, channel_key=wire.channel_key, signature=wire.signature
        )
    )


def _sealed_to_wire(ciphertexts: Mapping[int, bytes]) -> list[secagg_pb2.SealedShare]:
    return [secagg_pb2.SealedShare(peer=peer, ciphertext=ciphertexts[peer]) for peer in sorted(ciphertexts)]


def _sealed_from_wire(shares: Iterable[secagg_pb2.SealedShare]) -> dict[int, bytes]:
    found = {share.peer: share.ciphertext for share in shares}
    fields.ascending([share.peer for share in shares], "shares' peers")
    if any(not 0 < len(ciphertext) <= CIPHERTEXT_LIMIT for ciphertext in found.values()):
        raise fields.malformed(f"A sealed share is empty or longer than {CIPHERTEXT_LIMIT} bytes.")
    return found


def _signature_to_wire(value: SurvivorSignature) -> secagg_pb2.SurvivorSignature:
    return secagg_pb2.SurvivorSignature(index=value.index, signature=value.signature)


def _signature_from_wire(wire: secagg_pb2.SurvivorSignature) -> SurvivorSignature:
    signature = fields.fixed(wire.signature, fields.SIGNATURE_BYTES, "signature under the survivor set")
    return SurvivorSignature(index=fields.index(wire.index, "signer's index"), signature=signature)


def _reveal_to_wire(index: int, value: RevealedShares) -> secagg_pb2.RevealedShares:
    owners = sorted(value.shares)
    shares = [_revealed_to_wire(owner, value.shares[owner]) for owner in owners]
    return secagg_pb2.RevealedShares(index=index, shares=shares, survivor_digest=value.survivor_digest)


def _revealed_to_wire(owner: int, value: SelfMaskShares | SeedShare) -> secagg_pb2.RevealedShare:
    if isinstance(value, SeedShare):
        return secagg_pb2.RevealedShare(owner=owner, key_seed=value.share)
    bundles = sorted(value.shares)
    shares = [value.shares[bundle] for bundle in bundles]
    return secagg_pb2.RevealedShare(
        owner=owner, self_masks=secagg_pb2.SelfMaskShares(shares=shares, bundle_ids=bundles)
    )


def _reveal_from_wire(wire: secagg_pb2.RevealedShares) -> RevealedShares:
    owners = fields.ascending([share.owner for share in wire.shares], "owners of shares")
    return RevealedShares(
        survivor_digest=fields.digest(wire.survivor_digest, "survivor digest"),
        shares=dict(zip(owners, map(_revealed_from_wire, wire.shares), strict=True)),
    )


def _revealed_from_wire(wire: secagg_pb2.RevealedShare) -> SelfMaskShares | SeedShare:
    kind = wire.WhichOneof("share")
    if kind == "key_seed":
        return SeedShare(share=_share(wire.key_seed))
    if kind != "self_masks" or len(wire.self_masks.shares) != len(wire.self_masks.bundle_ids):
        raise fields.malformed("A revealed share is empty, of an unknown kind, or does not name its bundles.")
    bundles = fields.ascending(wire.self_masks.bundle_ids, "bundles of shares")
    return SelfMaskShares(shares=dict(zip(bundles, map(_share, wire.self_masks.shares), strict=True)))


def _share(raw: bytes) -> bytes:
    return fields.fixed(raw, SHARE_BYTES, "share")
