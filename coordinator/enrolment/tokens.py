"""One-time enrolment tokens: made for one site, kept as a hash, good for one pair of keys."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from dataclasses import replace

from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from coordinator.store.records import TokenRecord
from ravan.errors import ConfigError, ErrorReason, IdentityError
from ravan.identity.statements import sha256, statement
from ravan.ids import SITE_NAME, SiteId

DEFAULT_LIFE_S = 24 * 3600
LONGEST_LIFE_S = 30 * 24 * 3600

_ID_BYTES = 8
_SECRET_BYTES = 32


def make_token(
    site: str, *, life_s: int, now: float, key: bytes = b"", request_id: str = ""
) -> tuple[TokenRecord, str]:
    """Make a token for a site; return its record and the secret, which is kept nowhere.

    `life_s` of 0 means 24 hours. A request id has id and secret follow from it and from the coordinator's
    secret `key`, so that the call can be repeated; without one they are random.

    Raises ConfigError (CONFIG_INVALID) for a bad name or life.
    """
    if not SITE_NAME.fullmatch(site):
        raise ConfigError(
            f"`{site}` cannot be the name of a site.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Use lower-case letters, digits and inner hyphens, at most 63, such as `plant-7`.",
        )
    if not 0 <= life_s <= LONGEST_LIFE_S:
        raise ConfigError(
            f"A token cannot live for {life_s} seconds.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Use a time between one second and 30 days, such as `--ttl 24h`.",
        )
    token_id, secret = _draw(key, request_id)
    record = TokenRecord(
        token_id=token_id,
        secret_hash=sha256(statement(b"ravan/v1/token-secret", token_id.encode(), secret.encode())),
        site=SiteId(site),
        created_at=now,
        expires_at=now + (life_s or DEFAULT_LIFE_S),
    )
    return record, secret


def _draw(key: bytes, request_id: str) -> tuple[str, str]:
    """Return id and secret; where there is a request id HKDF-SHA256 (RFC 5869, no salt) of the key gives both."""
    drawn = secrets.token_bytes(_ID_BYTES + _SECRET_BYTES)
    if request_id:
        info = statement(b"ravan/v1/token", request_id.encode())
        drawn = HKDF(algorithm=hashes.SHA256(), length=len(drawn), salt=None, info=info).derive(key)
    return drawn[:_ID_BYTES].hex(), urlsafe_b64encode(drawn[_ID_BYTES:]).rstrip(b"=").decode()


def hash_keys(tls_key: bytes, identity_key: bytes) -> bytes:
    """Return what a used token remembers of the two public keys (SubjectPublicKeyInfo DER, raw Ed25519)."""
    return sha256(statement(b"ravan/v1/token-keys", tls_key, identity_key))


def redeem_token(record: TokenRecord | None, *, secret: str, keys_hash: bytes, now: float) -> TokenRecord:
    """Return the token as used by these keys; using it again with the same keys is allowed while it lives.

    Raises IdentityError with TOKEN_UNKNOWN, TOKEN_USED or TOKEN_EXPIRED.
    """
    if record is None or not _is_secret(record, secret):
        raise _refused(
            "This coordinator never issued the token, or it belongs to another coordinator.",
            ErrorReason.TOKEN_UNKNOWN,
            "NAME",
        )
    if record.keys_hash not in (None, keys_hash):
        raise used_token(record.site)
    if now >= record.expires_at:
        raise _refused(f"The token for {record.site} has expired.", ErrorReason.TOKEN_EXPIRED, record.site)
    if record.used_at is not None:
        return record
    return replace(record, used_at=now, keys_hash=keys_hash)


def used_token(site: SiteId) -> IdentityError:
    """Return the refusal of a token that other keys have used."""
    return _refused(f"The token for {site} was used before, by another PC or folder.", ErrorReason.TOKEN_USED, site)


def _is_secret(record: TokenRecord, secret: str) -> bool:
    offered = sha256(statement(b"ravan/v1/token-secret", record.token_id.encode(), secret.encode()))
    return constant_time.bytes_eq(offered, record.secret_hash)


def _refused(sentence: str, reason: ErrorReason, site: str) -> IdentityError:
    return IdentityError(
        sentence,
        reason=reason,
        next_step=f"Ask HQ for a new join string: `ravan-coordinator token create --site {site}`.",
    )
