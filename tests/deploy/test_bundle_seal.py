"""A bundle's seal breaks with any change, for our own check and for the installer's by the system's programs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from deploy.bundle.__main__ import cli
from deploy.bundle.packing import add_installers, list_wheels, pack_model
from deploy.bundle.seal import SIGNATURE, SUMS, seal, verify_seal
from ravan.codec.documents import model_digest
from ravan.errors import ErrorReason, ModelError, TransferError
from ravan.identity.keys import read_identity_key
from ravan.ids import Digest
from ravan.manifest.plan import ModelFile

needs_tools = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("openssl") is None, reason="install.sh needs Unix and openssl"
)


def append(path: Path) -> None:
    path.write_text(path.read_text() + "#")


Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "a changed file": lambda folder: (folder / "wheels" / "a.whl").write_bytes(b"other"),
    "a missing file": lambda folder: (folder / "bundle.json").unlink(),
    "a changed list": lambda folder: (folder / SUMS).write_bytes(b""),
    "a changed installer": lambda folder: append(folder / "install.sh"),
    "another signature": lambda folder: (folder / SIGNATURE).write_bytes(bytes(64)),
    "no signature": lambda folder: (folder / SIGNATURE).unlink(),
}


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    path = tmp_path / "keys" / "bundle.key"
    done = CliRunner().invoke(cli, ["key", str(path)])
    assert done.exit_code == 0, done.output
    assert path.stat().st_mode & 0o777 == 0o600
    return path


@pytest.fixture
def bundle(tmp_path: Path, key_path: Path) -> Path:
    """A bundle that fits no PC, so that the installer ends where the seal is good."""
    folder = tmp_path / "bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "a.whl").write_bytes(b"wheel")
    (folder / "bundle.json").write_text('{"python": "2.7", "system": "CP/M", "machine": "z80"}')
    add_installers(folder)
    seal(folder, read_identity_key(key_path.read_bytes()))
    return folder


def install(bundle: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [bundle / "install.sh", "--prefix", bundle.parent / "installed", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def test_a_whole_bundle_is_good_for_its_own_key_alone(bundle: Path, key_path: Path) -> None:
    public = key_path.with_name("bundle.key.pub")
    verified = CliRunner().invoke(cli, ["verify", str(bundle), "--public-key", str(public)])
    assert verified.output == "All 5 files are as they were signed.\n"
    with pytest.raises(TransferError) as refused:
        verify_seal(bundle, Ed25519PrivateKey.generate().public_key())
    assert refused.value.reason is ErrorReason.SIGNATURE_INVALID


@pytest.mark.parametrize("what", [*CHANGES, "an added file"])
def test_no_change_goes_unnoticed(bundle: Path, key_path: Path, what: str) -> None:
    added: Change = lambda folder: (folder / "wheels" / "b.whl").write_bytes(b"wheel")  # noqa: E731
    CHANGES.get(what, added)(bundle)
    public = load_pem_public_key(key_path.with_name("bundle.key.pub").read_bytes())
    with pytest.raises(TransferError):
        verify_seal(bundle, public)  # type: ignore[arg-type]


@needs_tools
def test_the_installer_takes_a_good_seal(bundle: Path, key_path: Path) -> None:
    done = install(bundle, "--public-key", key_path.with_name("bundle.key.pub"))
    assert done.stdout.splitlines() == ["The signature is good.", "All files are whole."]
    assert (done.returncode, "It is for system CP/M" in done.stderr) == (1, True)
    assert not (bundle.parent / "installed").exists()


@needs_tools
@pytest.mark.parametrize("what", CHANGES)
def test_the_installer_refuses_what_was_changed(bundle: Path, key_path: Path, what: str) -> None:
    CHANGES[what](bundle)
    done = install(bundle, "--public-key", key_path.with_name("bundle.key.pub"))
    assert done.returncode == 1
    assert "All files are whole." not in done.stdout
    assert done.stderr.splitlines()[-2].startswith("Error: ")


@needs_tools
def test_the_installer_says_when_it_did_not_check_the_signature(bundle: Path) -> None:
    done = install(bundle)
    assert done.stdout.splitlines() == ["The signature is not checked: no --public-key.", "All files are whole."]
    assert install(bundle, "--public-key").returncode == 1
    assert install(bundle, "--force", "yes").returncode == 1


def test_requirements_name_each_file_by_its_hash(tmp_path: Path) -> None:
    wheel = tmp_path / "Typing_Extensions-4.16.0-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    digest = hashlib.sha256(b"wheel").hexdigest()
    assert list_wheels([wheel]) == f"typing-extensions==4.16.0 --hash=sha256:{digest}\n"


def test_a_base_model_is_packed_by_the_hashes_that_agents_ask_for(tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    (source / "config.json").write_bytes(b"{}")
    (source / "evil.py").write_bytes(b"import os")
    sha256 = Digest(hashlib.sha256(b"{}").digest())
    expected = model_digest([ModelFile(path="config.json", sha256=sha256, size_bytes=2)]).hex()
    assert pack_model(source, expected, tmp_path / "bundle") == expected
    assert [path.name for path in (tmp_path / "bundle" / "model" / "blobs").iterdir()] == [sha256.hex()]
    with pytest.raises(ModelError) as refused:
        pack_model(source, "00" * 32, tmp_path / "other")
    assert refused.value.reason is ErrorReason.HASH_MISMATCH
    with pytest.raises(ModelError):
        pack_model(tmp_path / "bundle", "", tmp_path / "other")
