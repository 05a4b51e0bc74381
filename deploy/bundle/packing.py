"""Fill the folder of a bundle: wheels by the constraints, installers, and a base model by hash."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from packaging.utils import parse_wheel_filename

from deploy.bundle.seal import seal
from ravan.codec.documents import model_digest
from ravan.errors import ConfigError, ErrorReason, ModelError
from ravan.ids import Digest
from ravan.manifest.plan import ModelFile
from ravan.model_files import is_model_file
from ravan.version import VERSION

ROOT: Final = Path(__file__).parents[2]
INSTALLERS: Final = ("install.sh", "install.ps1", "install.cmd")
WHEELS: Final = "wheels"
BLOBS: Final = "model/blobs"
_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What goes into a bundle."""

    out: Path
    torch: str
    """As pip takes it; the CPU build, unless the PCs have more."""
    extras: tuple[str, ...] = ("edge",)
    model: Path | None = None
    """Folder of a base model that PCs are to have without downloading it."""
    model_digest: str = ""
    """What it must be, in hex, as `ravan-coordinator model list` shows it."""
    key: Ed25519PrivateKey | None = None


def build_bundle(order: Order) -> Path:
    """Make the bundle for PCs like this one, and return its folder; raise ConfigError or ModelError."""
    name = f"ravan-bundle-{VERSION}-{sys.platform}-{platform.machine().lower()}-py{_python()}"
    folder = order.out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if order.model is not None:
        pack_model(order.model, order.model_digest, folder)
    _gather_wheels(order, folder / WHEELS)
    (folder / "requirements.txt").write_text(list_wheels((folder / WHEELS).iterdir()), encoding="ascii")
    about = {"ravan": VERSION, "python": _python(), "system": platform.system(), "machine": platform.machine()}
    (folder / "bundle.json").write_text(json.dumps(about, indent=2) + "\n", encoding="ascii")
    add_installers(folder)
    seal(folder, order.key)
    return folder


def add_installers(folder: Path) -> None:
    """Copy the programs that people at the PC start."""
    for name in INSTALLERS:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    (folder / "install.sh").chmod(0o755)


def pack_model(source: Path, wanted: str, folder: Path) -> str:
    """Copy a base model's files under the names by which agents keep them, and return its digest.

    Raises ModelError where the folder holds none, and HASH_MISMATCH where it is not the one that was wanted.
    """
    files = sorted(path for path in source.iterdir() if path.is_file() and is_model_file(path.name))
    listed = [_model_file(path) for path in files]
    digest = model_digest(listed).hex()
    if not files or (wanted and wanted != digest):
        raise ModelError(
            f"{source} is not that base model: its digest is {digest}." if files else f"{source} holds no base model.",
            reason=ErrorReason.HASH_MISMATCH if files else ErrorReason.MODEL_MISSING,
            next_step="Compare with `ravan-coordinator model list`; name the folder that was given to `model add`.",
        )
    blobs = folder / BLOBS
    blobs.mkdir(parents=True)
    for path, file in zip(files, listed, strict=True):
        shutil.copyfile(path, blobs / file.sha256.hex())
    return digest


def list_wheels(wheels: Iterable[Path]) -> str:
    """Return requirements that nothing but these very files can meet."""
    lines = []
    for path in wheels:
        name, version, _, _ = parse_wheel_filename(path.name)
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return "".join(sorted(lines))


def _gather_wheels(order: Order, wheels: Path) -> None:
    wheels.mkdir()
    _run(*_PIP, "wheel", "--no-deps", "--wheel-dir", wheels, ROOT)
    (own,) = wheels.glob("ravan-*.whl")
    # Wheels alone: the PCs have no compiler.
    only = ("--only-binary", ":all:", "--constraint", ROOT / "constraints.txt", "--dest", wheels)
    _run(*_PIP, "download", *only, order.torch, f"{own}[{','.join(order.extras)}]")


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(
            f"pip could not gather the wheels: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Check that this machine reaches its package index, and the versions in constraints.txt.",
        )


def _model_file(path: Path) -> ModelFile:
    content = path.read_bytes()
    return ModelFile(path=path.name, sha256=Digest(hashlib.sha256(content).digest()), size_bytes=len(content))


def _python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
