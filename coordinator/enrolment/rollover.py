"""From one certificate authority to the next in three steps, so that no site is locked out.

Introduce: sites learn the next authority from a hand-over that the old one signs, while everything is still signed by
the old one. Switch: the next one signs from now on, and the old key is deleted. Retire: what the old one has signed
gets through no more. Each step can be repeated when it was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from coordinator.enrolment.ca import Authority, create_authority
from coordinator.enrolment.pki import (
    CA_CERTIFICATE,
    CA_KEY,
    HAND_OVER,
    MANIFEST_KEY,
    NEXT_CA_CERTIFICATE,
    NEXT_CA_KEY,
    OLD_CA_CERTIFICATE,
    ServerFiles,
    read_authority,
    write_leaves,
)
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.certificates import is_issued_by, load_certificate
from ravan.identity.handover import encode_hand_over, sign_hand_over
from ravan.identity.keyfiles import read_private, read_secret, write_private
from ravan.identity.keys import private_pem, raw_public, read_identity_key


def introduce(folder: Path, *, now: float, authority: Authority | None = None) -> str:
    """Make the next authority, or take this one, and have the acting one sign a hand-over to it; return that.

    Raises StateError (WRONG_STATE) while another change is under way.
    """
    if (folder / OLD_CA_CERTIFICATE).exists():
        raise _in_the_way("The last change of the authority is not finished.", "ca retire")
    if (folder / HAND_OVER).exists():
        raise _in_the_way("The next authority is introduced already.", "ca switch")
    following = authority or create_authority(now)
    write_private(folder / NEXT_CA_KEY, private_pem(following.key))
    write_private(folder / NEXT_CA_CERTIFICATE, following.certificate.public_bytes(Encoding.PEM))
    manifest_key = raw_public(read_identity_key(read_secret(folder / MANIFEST_KEY)))
    text = make_hand_over(folder, following.certificate, manifest_key)
    write_private(folder / HAND_OVER, text.encode() + b"\n")
    return text


def make_hand_over(folder: Path, following: x509.Certificate, manifest_key: bytes) -> str:
    """Have the authority of this folder name another one, and the manifest key that goes with it (raw, 32 bytes)."""
    acting = read_authority(folder / CA_KEY, folder / CA_CERTIFICATE)
    return encode_hand_over(sign_hand_over(acting.key, acting.certificate, following, manifest_key))


def switch(folder: Path, hosts: Sequence[str], *, now: float, server: ServerFiles | None = None) -> None:
    """Let the next authority act: it signs server and administrator anew, and the old key is deleted.

    `server` is the operator's own server certificate where there is one. Raises StateError (WRONG_STATE) when there is
    no next authority, IdentityError (IDENTITY_MISMATCH) when that certificate is not by it; then nothing has changed.
    """
    if not (folder / NEXT_CA_KEY).exists():
        raise _in_the_way("No next authority was introduced.", "ca roll")
    following = read_authority(folder / NEXT_CA_KEY, folder / NEXT_CA_CERTIFICATE)
    if server is not None:
        _require_issued(server.certificate, following, folder / NEXT_CA_CERTIFICATE)
    if not (folder / OLD_CA_CERTIFICATE).exists():  # it is there when this was cut off, and ca.crt may be the next
        write_private(folder / OLD_CA_CERTIFICATE, read_private(folder / CA_CERTIFICATE))
    write_private(folder / CA_KEY, private_pem(following.key))
    write_private(folder / CA_CERTIFICATE, following.certificate.public_bytes(Encoding.PEM))
    write_leaves(folder, following, hosts, now)
    (folder / NEXT_CA_CERTIFICATE).unlink(missing_ok=True)
    (folder / NEXT_CA_KEY).unlink()


def retire(folder: Path) -> None:
    """Forget the old authority; raise StateError (WRONG_STATE) when there is none or the next does not act yet."""
    if (folder / NEXT_CA_KEY).exists() or not (folder / OLD_CA_CERTIFICATE).exists():
        raise _in_the_way("There is no old authority to retire.", "ca switch")
    (folder / HAND_OVER).unlink(missing_ok=True)
    (folder / OLD_CA_CERTIFICATE).unlink()


def _require_issued(own: Path, following: Authority, named: Path) -> None:
    if not is_issued_by(load_certificate(read_private(own)), following.certificate):
        raise IdentityError(
            f"{own} is not by the next authority, so no site would trust this coordinator.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step=f"Have the authority of {named} issue it, put it in place with its key, and repeat this;"
            " a running coordinator shows the old one until then.",
        )


def _in_the_way(sentence: str, command: str) -> StateError:
    return StateError(
        sentence,
        reason=ErrorReason.WRONG_STATE,
        next_step=f"`ravan-coordinator {command}` comes first; docs/operations.md tells the order.",
    )
