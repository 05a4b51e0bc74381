"""`python -m deploy.bundle`: make the key of bundles, a bundle, and look whether one is as it was made."""

from __future__ import annotations

from pathlib import Path

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from deploy.bundle.packing import Order, build_bundle
from deploy.bundle.seal import verify_seal
from ravan.console import run_command
from ravan.errors import ErrorReason, IdentityError, StateError
from ravan.identity.keyfiles import make_private_folder, read_private, read_secret, write_private
from ravan.identity.keys import private_pem, read_identity_key

_file = click.Path(path_type=Path, dir_okay=False)


@click.group()
def cli() -> None:
    """Make bundles, with which PCs without a network become sites."""


@cli.command()
@click.argument("path", metavar="FILE", type=_file)
def key(path: Path) -> None:
    """Make a key in FILE, and its public half in FILE.pub, which the plants get by another way than the bundles."""
    if path.exists():
        raise StateError(f"{path} exists.", reason=ErrorReason.ALREADY_EXISTS, next_step="Name a new file.")
    made = Ed25519PrivateKey.generate()
    make_private_folder(path.absolute().parent)
    write_private(path, private_pem(made))
    public = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_name(f"{path.name}.pub").write_bytes(public)
    click.echo(f"Give {path}.pub to the plants; keep {path} to yourself.")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("dist"), show_default=True)
@click.option("--key", "key_path", type=_file, help="Sign with this key.")
@click.option("--torch", default="torch", show_default=True, help="Which torch, as pip takes it.")
@click.option("--extras", default="edge", show_default=True, help="Parts of ravan: edge, parquet, postgres.")
@click.option("--model", type=click.Path(path_type=Path, file_okay=False, exists=True), help="A base model's folder.")
@click.option("--model-digest", default="", help="What its digest must be.")
def build(out: Path, key_path: Path | None, torch: str, extras: str, model: Path | None, model_digest: str) -> None:
    """Make a bundle for PCs with this system, processor and Python."""
    signer = read_identity_key(read_secret(key_path)) if key_path is not None else None
    order = Order(
        out=out,
        torch=torch,
        extras=tuple(extras.split(",")),
        model=model,
        model_digest=model_digest,
        key=signer,
    )
    folder = build_bundle(order)
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) >> 20
    signed = f"signed with {key_path}" if signer is not None else "not signed: name a key with --key"
    click.echo(f"{folder} has {megabytes} MB and is {signed}.")


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--public-key", "key_path", type=_file, required=True, help="Who must have made it.")
def verify(folder: Path, key_path: Path) -> None:
    """Look whether every file of a bundle is as it was signed."""
    click.echo(f"All {verify_seal(folder, _read_public(read_private(key_path)))} files are as they were signed.")


def _read_public(pem: bytes) -> Ed25519PublicKey:
    try:
        found = load_pem_public_key(pem)
    except ValueError:
        found = None
    if not isinstance(found, Ed25519PublicKey):
        raise IdentityError(
            "The public key is no Ed25519 key in PEM form.",
            reason=ErrorReason.MALFORMED,
            next_step="Use the .pub file that `python -m deploy.bundle key` wrote.",
        )
    return found


if __name__ == "__main__":
    run_command(lambda: cli(prog_name="python -m deploy.bundle"))
