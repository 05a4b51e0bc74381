"""The published vectors: our code makes them, a slow independent implementation confirms them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import slow_headsum as slow
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from secagg_vectors import FOLDER, all_vectors


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def toy() -> Any:
    return load("round.json")


@pytest.fixture(scope="module")
def members(toy: Any) -> dict[int, slow.SlowMember]:
    return {m["index"]: slow.SlowMember(m["index"], bytes.fromhex(m["root"])) for m in toy["members"]}


@pytest.fixture(scope="module")
def digests(toy: Any) -> tuple[bytes, bytes]:
    by_kind = {d["kind"]: slow.document_digest(d["kind"], bytes.fromhex(d["payload"])) for d in toy["documents"]}
    return by_kind["assignment"], by_kind["roster"]


def test_product_still_makes_the_published_files() -> None:
    made = json.loads(json.dumps(all_vectors()))
    assert {name: load(name) for name in made} == made
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(made)


@pytest.mark.parametrize("case", load("shamir.json"), ids=lambda case: case["name"])
def test_shamir(case: Any) -> None:
    secret = bytes.fromhex(case["secret"])
    coefficients = [int(c, 16) for c in case["coefficients"]]
    shares = slow.shamir_shares(secret, coefficients, case["points"])
    assert [share.hex() for share in shares] == case["shares"]
    threshold = len(coefficients) + 1
    assert slow.shamir_solve(case["points"][-threshold:], shares[-threshold:]) == secret


def test_document_digests(toy: Any) -> None:
    for document in toy["documents"]:
        assert slow.document_digest(document["kind"], bytes.fromhex(document["payload"])).hex() == document["digest"]


def test_round_keys_and_their_signatures(toy: Any, members: Any, digests: Any) -> None:
    for member in toy["members"]:
        own = members[member["index"]]
        assert (own.mask_key.hex(), own.channel_key.hex()) == (member["mask_key"], member["channel_key"])
        message = slow.info(
            "ravan/secagg/v1/advertise",
            slow.blob(digests[0]),
            slow.short(own.index),
            slow.blob(own.mask_key),
            slow.blob(own.channel_key),
        )
        assert message.hex() == member["advertise_bytes"]
        identity = Ed25519PublicKey.from_public_bytes(bytes.fromhex(member["identity_key"]))
        identity.verify(bytes.fromhex(member["advertise_signature"]), message)


def dealt(toy: Any, members: Any) -> dict[int, dict[int, bytes]]:
    """Owner to holder to its joined shares."""
    return {
        index: own.shares(list(members), toy["threshold"], [b["id"] for b in toy["bundles"] if index in b["members"]])
        for index, own in members.items()
    }


def test_sealed_shares(toy: Any, members: Any, digests: Any) -> None:
    documents, shares = slow.salt(*digests), dealt(toy, members)
    for member in toy["members"]:
        own = members[member["index"]]
        for peer, ciphertext in member["ciphertexts"].items():
            other = members[int(peer)]
            sealed = own.sealed(other.index, other.channel_key, documents, shares[own.index][other.index])
            assert sealed.hex() == ciphertext


def test_masked_payloads(toy: Any, members: Any, digests: Any) -> None:
    documents, mask_set = slow.salt(*digests), slow.mask_set_digest(digests[0], digests[1], toy["mask_set"])
    for member in toy["members"]:
        own, payload = members[member["index"]], b""
        for bundle in toy["bundles"]:
            if own.index in bundle["members"]:
                partners = {
                    i: members[i].mask_key for i in bundle["members"] if i in toy["mask_set"] and i != own.index
                }
                vector = member["vectors"][str(bundle["id"])]
                payload += slow.packed(own.masked(bundle["id"], vector, partners, documents, mask_set))
        assert payload.hex() == member["payload"]


def test_revealed_shares(toy: Any, members: Any, digests: Any) -> None:
    mask_set = slow.mask_set_digest(digests[0], digests[1], toy["mask_set"])
    assert slow.survivor_digest(mask_set, toy["survivors"], toy["approved"]).hex() == toy["survivor_digest"]
    shares = dealt(toy, members)
    for member in toy["members"]:
        if member["index"] not in toy["survivors"]:
            assert member["revealed"] is None
            continue
        for owner in members:
            parts = shares[owner][member["index"]].hex()
            seed, *self_shares = (parts[i : i + 66] for i in range(0, len(parts), 66))
            bundles = [str(b["id"]) for b in toy["bundles"] if owner in b["members"]]
            alive = {b: s for b, s in zip(bundles, self_shares, strict=True) if int(b) in toy["approved"]}
            assert member["revealed"][str(owner)] == (alive if owner in toy["survivors"] else seed)


def test_sums_are_those_of_the_survivors(toy: Any) -> None:
    assert toy["sums"].keys() == {str(b) for b in toy["approved"]}
    for bundle, total in toy["sums"].items():
        rows = [
            m["vectors"][bundle] for m in toy["members"] if m["index"] in toy["survivors"] and bundle in m["vectors"]
        ]
        assert [sum(column) % 2**24 for column in zip(*rows, strict=True)] == total
