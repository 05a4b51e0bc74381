"""The seal of a bundle: a SHA-256 of every file, and an Ed25519 signature under the list of them.

The list has the form of `sha256sum`, and the signature that of `openssl pkeyutl`, so that neither needs this program.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ravan.errors import ErrorReason, TransferError

SUMS: Final = "SHA256SUMS"
SIGNATURE: Final = "SHA256SUMS.sig"
_LINE: Final = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<name>[\w+.\-][\w+.\-/]*)")


def seal(folder: Path, key: Ed25519PrivateKey | None) -> None:
    """Write the list of sums and, given a key, the signature under it."""
    (folder / SIGNATURE).unlink(missing_ok=True)
    content = "".join(f"{digest}  {name}\n" for name, digest in sorted(_sums_of(folder).items())).encode()
    (folder / SUMS).write_bytes(content)
    if key is not None:
        (folder / SIGNATURE).write_bytes(key.sign(content))


def verify_seal(folder: Path, key: Ed25519PublicKey) -> int:
    """Return how many files are as they were sealed by this key's owner.

    Raises TransferError: SIGNATURE_INVALID, or HASH_MISMATCH for a file that was changed, is missing or was added.
    """
    try:
        content = (folder / SUMS).read_bytes()
        key.verify((folder / SIGNATURE).read_bytes(), content)
    except (FileNotFoundError, InvalidSignature) as error:
        raise TransferError(
            f"The list of sums in {folder} is not signed by this key.",
            reason=ErrorReason.SIGNATURE_INVALID,
            next_step="Do not install from it. Ask who made the bundle for a new copy, and compare the key with them.",
        ) from error
    wanted, found = _read_sums(content.decode()), _sums_of(folder)
    differing = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if differing:
        raise TransferError(
            f"{differing[0]} is not as it was sealed, and {len(differing) - 1} other files.",
            reason=ErrorReason.HASH_MISMATCH,
            next_step="Do not install from it. Copy the bundle again.",
        )
    return len(wanted)


def _sums_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: _digest(path) for name, path in names.items() if name not in (SUMS, SIGNATURE)}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(text: str) -> Mapping[str, str]:
    lines = [_LINE.fullmatch(line) for line in text.splitlines()]
    return {line["name"]: line["digest"] for line in lines if line is not None}
