"""Round keys, key agreement, labelled derivations and signatures; all primitives from `cryptography`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ravan.ids import Digest
from ravan.manifest.assignment import Suite
from ravan.secagg.refusals import bad_signature, malformed
from ravan.secagg.shamir import Entropy
from ravan.secagg.transcript import DIGEST_BYTES, Label, data, encode, u8, u16

Signer = Callable[[bytes], bytes]
"""Signs with the site's Ed25519 identity; the key itself stays where the site keeps it."""

ROOT_BYTES = 32
"""Size of a round's root secret."""

KEY_BYTES: Final = {Suite.AES_128_CTR: 16, Suite.AES_256_CTR: 32, Suite.CHACHA20: 32}
"""Size of a keystream key."""


_PROBE: Final = X25519PrivateKey.from_private_bytes(bytes(range(32)))
"""Secret to nobody: which keys are of low order does not depend on the other side's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundKeys:
    """One member's secrets of one round, all from one root so that a replay gives the same bytes.

    Fresh for every round. The mask key can be recovered by the others when the member drops out;
    the channel key never is, or a recovered mask key would open every share sent to its owner.
    """

    root: bytes = field(repr=False)
    """32 bytes from the operating system."""

    @property
    def mask_seed(self) -> bytes:
        """Return the seed of the mask key: the secret that holders share."""
        return expand(self.root, encode(Label.ROOT_MASK_SEED), DIGEST_BYTES)

    @property
    def channel_key(self) -> X25519PrivateKey:
        """Return the key that seals shares."""
        return derive_private_key(expand(self.root, encode(Label.ROOT_CHANNEL_SEED), DIGEST_BYTES))

    def self_seed(self, bundle_id: int) -> bytes:
        """Return b_u,B: the seed of the self mask of one bundle."""
        return expand(self.root, encode(Label.ROOT_SELF_SEED, u16(bundle_id)), DIGEST_BYTES)

    def seed_shamir_entropy(self) -> Entropy:
        """Return the source of the polynomial that hides the mask seed."""
        return lambda size: expand(self.root, encode(Label.ROOT_SHAMIR_SEED), size)

    def self_shamir_entropy(self, bundle_id: int) -> Entropy:
        """Return the source of the polynomial that hides one self-mask seed."""
        return lambda size: expand(self.root, encode(Label.ROOT_SHAMIR_SELF, u16(bundle_id)), size)


def extract(salt: bytes, secret: bytes) -> bytes:
    """Return HKDF-Extract with SHA-256 (RFC 5869, 2.2), 32 bytes."""
    mac = HMAC(salt, SHA256())
    mac.update(secret)
    return mac.finalize()


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """Return HKDF-Expand with SHA-256 (RFC 5869, 2.3); at most 8160 bytes."""
    return HKDFExpand(algorithm=SHA256(), length=length, info=info).derive(key)


def derive_private_key(seed: bytes) -> X25519PrivateKey:
    """Return the X25519 key of a 32-byte seed; the scalar is clamped by X25519 itself (RFC 7748, 5)."""
    return X25519PrivateKey.from_private_bytes(expand(seed, encode(Label.DH), DIGEST_BYTES))


def public_bytes(key: X25519PrivateKey) -> bytes:
    """Return the 32 bytes of the public key."""
    return key.public_key().public_bytes_raw()


def is_usable(public_key: bytes) -> bool:
    """Tell whether X25519 gives a secret with this key; with one of low order it refuses (RFC 7748, 6.1)."""
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError:
        return False
    return True


def agree(own: X25519PrivateKey, other: bytes, salt: bytes) -> bytes:
    """Return the pair's extracted secret, 32 bytes; raise ProtocolError for a public key of low order."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(other))
    except ValueError as error:
        raise malformed("A round key of another member is no usable X25519 key.") from error
    return extract(salt, shared)


def pair_mask_key(pair: bytes, suite: Suite, bundle_id: int, mask_set: Digest, members: tuple[int, int]) -> bytes:
    """Return K_uv,B: the keystream key that the two `members` (in any order) share for one bundle."""
    low, high = sorted(members)
    info = encode(Label.PAIR, u8(suite), u16(bundle_id), data(mask_set), u16(low), u16(high))
    return expand(pair, info, KEY_BYTES[suite])


def self_mask_key(seed: bytes, suite: Suite, bundle_id: int, index: int) -> bytes:
    """Return K_u,B: the keystream key of a member's own mask of one bundle."""
    return expand(seed, encode(Label.SELF, u8(suite), u16(bundle_id), u16(index)), KEY_BYTES[suite])


def verify(identity_key: bytes, signature: bytes, message: bytes, what: str) -> None:
    """Raise ProtocolError(SIGNATURE_INVALID), naming `what`, unless the Ed25519 signature is right."""
    try:
        Ed25519PublicKey.from_public_bytes(identity_key).verify(signature, message)
    except (InvalidSignature, ValueError) as error:
        raise bad_signature(f"The signature of {what} is not valid.") from error
