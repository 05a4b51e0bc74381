"""Make the published vectors with the product's code: `python tests/ravan/secagg/secagg_vectors.py`.

Run it only for a new version of the protocol: the files of a released version never change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from secagg_driver import Federation, identity, make_assignment, only, seeded

from ravan.manifest.documents import DocumentKind
from ravan.manifest.roster import Roster
from ravan.secagg.effects import Advertise, SendShares
from ravan.secagg.messages import SelfMaskShares
from ravan.secagg.shamir import PRIME, split
from ravan.secagg.transcript import advertise_bytes, document_digest

FOLDER = Path(__file__).parents[2] / "vectors" / "secagg" / "v1"

_FINISHERS, _UPLOADERS = (0, 1, 2, 3), (0, 1, 3)


def shamir_vectors() -> list[dict[str, Any]]:
    """Shares from fixed coefficients at the edges of the field and inside it."""
    cases = []
    for name, secret, coefficients, holders in (
        ("zero secret, smallest coefficients", bytes(32), [1, 1], 4),
        ("largest secret, largest coefficients", b"\xff" * 32, [PRIME - 1] * 3, 5),
        ("ordinary", seeded("secret"), [int.from_bytes(seeded("c", i), "big") for i in range(4)], 7),
    ):
        raw = b"".join(c.to_bytes(48, "big") for c in coefficients)
        points = list(range(1, holders + 1))
        shares = split(secret, len(coefficients) + 1, points, lambda size, raw=raw: raw[:size])  # type: ignore[misc]
        cases.append(
            {
                "name": name,
                "secret": secret.hex(),
                "coefficients": [hex(c) for c in coefficients],
                "points": points,
                "shares": [share.hex() for share in shares],
            }
        )
    return cases


def round_vectors() -> dict[str, Any]:
    """A toy round: four members, three bundles, member 2 drops at the upload."""
    documents = {
        DocumentKind.PLAN: b"the plan's bytes",
        DocumentKind.ASSIGNMENT: b"the assignment's bytes",
        DocumentKind.ROSTER: b"the roster's bytes",
    }
    federation = Federation(
        make_assignment([(0, 1), (0, 1), (0,), (0, 1)], lengths=(4, 3), dense=5),
        digest=document_digest(DocumentKind.ASSIGNMENT, documents[DocumentKind.ASSIGNMENT]),
        roster_digest=document_digest(DocumentKind.ROSTER, documents[DocumentKind.ROSTER]),
    )
    result = federation.run(finishers=_FINISHERS, sharers=_FINISHERS, uploaders=_UPLOADERS, revealers=_UPLOADERS)
    assert federation.roster is not None
    assert federation.survivor_set is not None
    return {
        "documents": [
            {"kind": kind.name.lower(), "payload": payload.hex(), "digest": document_digest(kind, payload).hex()}
            for kind, payload in documents.items()
        ],
        "threshold": federation.roster.threshold,
        "bundles": [{"id": b.bundle_id, "members": b.members} for b in federation.roster.bundles],
        "mask_set": _FINISHERS,
        "survivors": federation.survivor_set.survivors,
        "approved": federation.survivor_set.bundles,
        "survivor_digest": next(iter(federation.revealed.values())).survivor_digest.hex(),
        "members": [_member(federation, index) for index in _FINISHERS],
        "sums": {str(bundle): total.tolist() for bundle, total in result.sums.items()},
    }


def _member(federation: Federation, index: int) -> dict[str, Any]:
    roster = federation.roster
    assert isinstance(roster, Roster)
    entry = roster.entries[index]
    replay = federation.agent(index)
    assert only(replay.finish_training(), Advertise).advertisement == entry
    sealed = only(replay.roster(roster, federation.roster_digest), SendShares).shares
    revealed = federation.revealed.get(index)
    return {
        "index": index,
        "root": seeded("root", index).hex(),
        "identity_key": identity(index).public_key().public_bytes_raw().hex(),
        "mask_key": entry.mask_key.hex(),
        "channel_key": entry.channel_key.hex(),
        "advertise_bytes": advertise_bytes(federation.digest, index, entry.mask_key, entry.channel_key).hex(),
        "advertise_signature": entry.signature.hex(),
        "ciphertexts": {str(peer): text.hex() for peer, text in sealed.ciphertexts.items()},
        "vectors": {str(bundle): vector.tolist() for bundle, vector in federation.vectors[index].items()},
        "payload": federation.payloads[index].hex(),
        "revealed": None
        if revealed is None
        else {
            str(owner): {str(b): s.hex() for b, s in shares.shares.items()}
            if isinstance(shares, SelfMaskShares)
            else shares.share.hex()
            for owner, shares in revealed.shares.items()
        },
    }


def all_vectors() -> dict[str, Any]:
    """Contents of every file by name."""
    return {"shamir.json": shamir_vectors(), "round.json": round_vectors()}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in all_vectors().items():
        (FOLDER / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
