"""The identity folder: two private keys, the certificate, and what the PC trusts.

Keys are written when enrolment begins and `site.json` when it has succeeded, so the folder is
enrolled exactly when `site.json` is there, and an interrupted enrolment goes on with its keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, load_certificate, read_caller
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keyfiles import make_private_folder, read_private, write_private
from ravan.identity.keys import new_tls_key, private_pem, public_info, read_identity_key, read_tls_key
from ravan.ids import SiteId

TLS_KEY: Final = "tls.key"
TLS_CERTIFICATE: Final = "tls.crt"
CA_CERTIFICATE: Final = "ca.crt"
IDENTITY_KEY: Final = "identity.key"
MANIFEST_KEY: Final = "manifest.pub"
SITE_FILE: Final = "site.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What this PC is and whom it trusts."""

    site: SiteId
    address: CoordinatorAddress
    tls_key: bytes = field(repr=False)
    """PEM."""
    certificate: bytes
    """PEM."""
    ca_certificate: bytes
    """PEM."""
    identity_key: ed25519.Ed25519PrivateKey = field(repr=False)
    manifest_key: bytes
    """Ed25519 public key of the coordinator's documents, raw, 32 bytes."""

    @property
    def certificate_expires_at(self) -> float:
        """Seconds since the Unix epoch."""
        return load_certificate(self.certificate).not_valid_after_utc.timestamp()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceKeys:
    """The two private keys of a PC."""

    tls: ec.EllipticCurvePrivateKey = field(repr=False)
    identity: ed25519.Ed25519PrivateKey = field(repr=False)


def is_enrolled(folder: Path) -> bool:
    """Tell whether the folder holds a complete identity."""
    return (folder / SITE_FILE).exists()


def make_keys(folder: Path) -> DeviceKeys:
    """Return the folder's keys, made now unless an earlier attempt left them."""
    make_private_folder(folder)
    if not (folder / TLS_KEY).exists():
        write_private(folder / TLS_KEY, private_pem(new_tls_key()))
    if not (folder / IDENTITY_KEY).exists():
        write_private(folder / IDENTITY_KEY, private_pem(ed25519.Ed25519PrivateKey.generate()))
    return DeviceKeys(
        tls=read_tls_key(read_private(folder / TLS_KEY)),
        identity=read_identity_key(read_private(folder / IDENTITY_KEY)),
    )


def save_identity(folder: Path, identity: Identity) -> None:
    """Write what enrolment brought; the keys are there already. `site.json` comes last."""
    address = identity.address
    site = {
        "site": identity.site,
        "host": address.host,
        "enrolment_port": address.enrolment_port,
        "site_port": address.site_port,
    }
    write_private(folder / TLS_CERTIFICATE, identity.certificate)
    write_private(folder / CA_CERTIFICATE, identity.ca_certificate)
    write_private(folder / MANIFEST_KEY, identity.manifest_key.hex().encode() + b"\n")
    write_private(folder / SITE_FILE, json.dumps(site, indent=2).encode() + b"\n")


def load_identity(folder: Path) -> Identity:
    """Read the folder.

    Raises IdentityError: NOT_FOUND when nobody enrolled here, IDENTITY_MISMATCH when its files do
    not belong together.
    """
    if not is_enrolled(folder):
        raise IdentityError(
            f"There is no identity in {folder}.",
            reason=ErrorReason.NOT_FOUND,
            next_step="Enrol this PC first: `ravan-agent enroll JOIN_STRING --dir DIR`.",
        )
    site, address = _read_site(folder / SITE_FILE)
    identity = Identity(
        site=site,
        address=address,
        tls_key=read_private(folder / TLS_KEY),
        certificate=read_private(folder / TLS_CERTIFICATE),
        ca_certificate=read_private(folder / CA_CERTIFICATE),
        identity_key=read_identity_key(read_private(folder / IDENTITY_KEY)),
        manifest_key=_read_manifest_key(folder / MANIFEST_KEY),
    )
    _require_consistent(folder, identity)
    return identity


def _read_site(path: Path) -> tuple[SiteId, CoordinatorAddress]:
    try:
        content = json.loads(read_private(path))
        address = CoordinatorAddress(
            host=str(content["host"]),
            enrolment_port=int(content["enrolment_port"]),
            site_port=int(content["site_port"]),
        )
        return SiteId(str(content["site"])), address
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error


def _read_manifest_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(read_private(path).decode().strip())
    except ValueError as error:
        raise _damaged(path) from error
    if len(key) != 32:
        raise _damaged(path)
    return key


def _require_consistent(folder: Path, identity: Identity) -> None:
    caller = read_caller(identity.certificate)
    certified = public_info(load_certificate(identity.certificate).public_key())
    if (caller.role, caller.name) != (Role.AGENT, identity.site):
        raise _damaged(folder / TLS_CERTIFICATE)
    if certified != public_info(read_tls_key(identity.tls_key).public_key()):
        raise _damaged(folder / TLS_KEY)
    load_certificate(identity.ca_certificate)


def _damaged(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} is damaged or does not belong to the other files of this identity.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Restore the whole folder from one backup, or enrol into a new folder with a new join string.",
    )
