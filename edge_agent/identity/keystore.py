"""The identity folder: two private keys, the certificate, and what the PC trusts.

Keys are written when enrolment begins and `site.json` when it has succeeded, so the folder is
enrolled exactly when `site.json` is there, and an interrupted enrolment goes on with its keys.

A renewal makes the next TLS key in `next.key` before it asks. The answer is written as `next.crt`; from then on the
renewal has happened, and whoever opens the folder finishes putting the pair in the place of the old one.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ravan.disk import move_durably, sync_folder
from ravan.errors import ErrorReason, IdentityError
from ravan.identity.certificates import Role, load_certificate, load_certificates, read_caller
from ravan.identity.join import CoordinatorAddress
from ravan.identity.keyfiles import make_private_folder, read_private, read_secret, write_private
from ravan.identity.keys import new_tls_key, private_pem, public_info, read_identity_key, read_tls_key
from ravan.ids import SiteId

TLS_KEY: Final = "tls.key"
TLS_CERTIFICATE: Final = "tls.crt"
CA_CERTIFICATE: Final = "ca.crt"
IDENTITY_KEY: Final = "identity.key"
MANIFEST_KEY: Final = "manifest.pub"
SITE_FILE: Final = "site.json"
NEXT_KEY: Final = "next.key"
NEXT_CERTIFICATE: Final = "next.crt"


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
    """Authorities that the coordinator's certificate may come from, PEM, one after the other."""
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
    _finish_renewal(folder)
    if not (folder / TLS_KEY).exists():
        write_private(folder / TLS_KEY, private_pem(new_tls_key()))
    if not (folder / IDENTITY_KEY).exists():
        write_private(folder / IDENTITY_KEY, private_pem(ed25519.Ed25519PrivateKey.generate()))
    return DeviceKeys(
        tls=read_tls_key(read_secret(folder / TLS_KEY)),
        identity=read_identity_key(read_secret(folder / IDENTITY_KEY)),
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
    save_trust(folder, identity)
    write_private(folder / SITE_FILE, json.dumps(site, indent=2).encode() + b"\n")


def make_next_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """Return the TLS key that the next certificate is for, made now unless an earlier attempt left it."""
    if not (folder / NEXT_KEY).exists():
        write_private(folder / NEXT_KEY, private_pem(new_tls_key()))
    return read_tls_key(read_secret(folder / NEXT_KEY))


def save_renewal(folder: Path, identity: Identity) -> None:
    """Put a renewed certificate and its key, which is the next key, in the place of the old ones.

    Whom the PC trusts is written first: it only gains from that until the certificate is there.
    """
    save_trust(folder, identity)
    write_private(folder / NEXT_CERTIFICATE, identity.certificate)
    _finish_renewal(folder)


def save_trust(folder: Path, identity: Identity) -> None:
    """Write the authorities and the manifest key that the PC trusts."""
    write_private(folder / CA_CERTIFICATE, identity.ca_certificate)
    write_private(folder / MANIFEST_KEY, identity.manifest_key.hex().encode() + b"\n")


def _finish_renewal(folder: Path) -> None:
    """Complete what a power failure may have cut off: key first, so that `next.crt` stands until both are moved."""
    if not (folder / NEXT_CERTIFICATE).exists():
        return
    for name, place in ((NEXT_KEY, TLS_KEY), (NEXT_CERTIFICATE, TLS_CERTIFICATE)):
        with suppress(FileNotFoundError):  # it is there already: by an earlier attempt, or another program's
            move_durably(folder / name, folder / place)


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
    _finish_renewal(folder)
    site, address = _read_site(folder / SITE_FILE)
    identity = Identity(
        site=site,
        address=address,
        tls_key=read_secret(folder / TLS_KEY),
        certificate=read_private(folder / TLS_CERTIFICATE),
        ca_certificate=read_private(folder / CA_CERTIFICATE),
        identity_key=read_identity_key(read_secret(folder / IDENTITY_KEY)),
        manifest_key=_read_manifest_key(folder / MANIFEST_KEY),
    )
    _require_consistent(folder, identity)
    return identity


def remove_identity(folder: Path) -> None:
    """Delete keys, certificates and trust; the folder counts as not enrolled before the first key is gone."""
    for name in (
        SITE_FILE,
        *(NEXT_CERTIFICATE, NEXT_KEY, TLS_KEY, IDENTITY_KEY),
        *(TLS_CERTIFICATE, CA_CERTIFICATE, MANIFEST_KEY),
    ):
        (folder / name).unlink(missing_ok=True)
    sync_folder(folder)


def begin_replacement(folder: Path) -> None:
    """Count as not enrolled from now on, so that an interrupted replacement is repeated and not run with."""
    (folder / SITE_FILE).unlink(missing_ok=True)
    (folder / NEXT_CERTIFICATE).unlink(missing_ok=True)
    (folder / NEXT_KEY).unlink(missing_ok=True)
    sync_folder(folder)


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
    load_certificates(identity.ca_certificate)


def _damaged(path: Path) -> IdentityError:
    return IdentityError(
        f"{path} is damaged or does not belong to the other files of this identity.",
        reason=ErrorReason.IDENTITY_MISMATCH,
        next_step="Restore the whole folder from one backup, or enrol into a new folder with a new join string.",
    )
