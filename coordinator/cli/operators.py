"""`operator`: certificates for those who watch, who run jobs, and who decide on membership."""

# ruff: noqa: PLC0415 - commands import what they need when they run

from __future__ import annotations

import json
import time
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from coordinator.cli.connection import config_option, config_path, json_option
from coordinator.cli.durations import Duration

if TYPE_CHECKING:
    from coordinator.audit.chain import AuditEntry
    from coordinator.config import CoordinatorFile


@click.group()
def operator() -> None:
    """Give people certificates of their own, on the machine that holds the data folder.

    A viewer sees sites, jobs and models; an operator also runs jobs; an admin also invites and revokes sites.
    """


@operator.command("create")
@click.argument("name", metavar="NAME")
@click.option("--role", type=click.Choice(("viewer", "operator", "admin")), required=True, help="What it may do.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New folder for the files.")
@click.option("--life", type=Duration(), default="365d", show_default=True, help="How long the certificate holds.")
@config_option
def create_operator(config_file: Path | None, name: str, role: str, out: Path, life: int) -> None:
    """Issue a certificate for NAME and write it with its key to DIR."""
    from coordinator.audit.entries import operator_created
    from coordinator.enrolment.operators import CERTIFICATE_FILE, KEY_FILE, create_operator
    from coordinator.enrolment.pki import CA_CERTIFICATE
    from ravan.identity.certificates import Rank

    config = _load(config_file)
    record = create_operator(_pki_of(config), name, Rank(role), life=timedelta(seconds=life), out=out, now=time.time())
    _record(config, operator_created(name, record.serial, record.rank))
    click.echo(f"{out}: key and certificate of {name}, {role}. Hand the folder over on a way that you trust.")
    click.echo(
        f"Use: ravan-coordinator job list --server HOST:8443 --cert {out / CERTIFICATE_FILE} --key {out / KEY_FILE}"
        f" --ca {out / CA_CERTIFICATE}"
    )


@operator.command("list")
@json_option
@config_option
def list_operators(config_file: Path | None, as_json: bool) -> None:
    """Show the certificates that were issued."""
    from coordinator.cli.tables import show_operators
    from coordinator.enrolment.operator_book import read_operators

    records = read_operators(_pki_of(_load(config_file)))
    if as_json:
        click.echo(json.dumps([asdict(each) for each in records], sort_keys=True))
    else:
        show_operators(records, now=time.time())


@operator.command("revoke")
@click.argument("name", metavar="NAME")
@config_option
def revoke_operator(config_file: Path | None, name: str) -> None:
    """Refuse every certificate of NAME from now on, also on connections that are open."""
    from coordinator.audit.entries import operator_revoked
    from coordinator.enrolment.operators import revoke_operator
    from coordinator.enrolment.pki import ADMIN

    config = _load(config_file)
    revoked = revoke_operator(_pki_of(config), name, now=time.time())
    _record(config, *(operator_revoked(name, each.serial) for each in revoked))
    click.echo(f"Revoked {len(revoked)} of {name}.")
    if name == ADMIN:
        click.echo("Commands on this machine used it. A new one: ravan-coordinator ca renew", err=True)


def _load(config_file: Path | None) -> CoordinatorFile:
    from coordinator.config import load_config

    return load_config(config_path(config_file))


def _pki_of(config: CoordinatorFile) -> Path:
    from coordinator.config import DataFolder

    return DataFolder(config.server.data_dir).pki


def _record(config: CoordinatorFile, *entries: AuditEntry) -> None:
    """Append to the audit log, also while the daemon writes to it."""
    from coordinator.audit.log import AuditLog
    from coordinator.enrolment.pki import load_pki
    from coordinator.storage import records_place
    from coordinator.store.sql.snapshots import add_beside

    log = AuditLog(load_pki(_pki_of(config)).manifest_key)
    add_beside(records_place(config), lambda transaction: log.append(transaction, *entries))
