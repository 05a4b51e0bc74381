"""Enrolment from the PC's side: make both keys, prove them, keep the certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio

from edge_agent.identity.asking import ask
from edge_agent.identity.keystore import (
    DeviceKeys,
    Identity,
    begin_replacement,
    is_enrolled,
    load_identity,
    make_keys,
    save_identity,
)
from edge_agent.identity.lock import hold_identity
from edge_agent.identity.reach import STRAIGHT, Reach
from ravan.errors import ErrorReason, IdentityError, RavanError, StateError
from ravan.identity.certificates import Role, is_issued_by, load_certificate, read_caller
from ravan.identity.join import Invitation, decode_invitation
from ravan.identity.keys import certificate_request, private_pem, public_info, raw_public
from ravan.identity.proof import sign_proof
from ravan.ids import SiteId
from ravan.rpc.clock_faults import clocks_differ
from ravan.version import VERSION
from ravan.wire.v1 import enrolment_service_pb2, enrolment_service_pb2_grpc

ENROL_TIMEOUT_S: Final = 30.0


def _ignore(fault: RavanError) -> None:
    """Tell nobody."""


async def enrol(
    join_string: str,
    folder: Path,
    reach: Reach = STRAIGHT,
    warn: Callable[[RavanError], None] = _ignore,
    *,
    timeout_s: float = ENROL_TIMEOUT_S,
    replace: bool = False,
) -> Identity:
    """Enrol this PC and return its identity; when the call fails, repeating it with the same folder is safe.

    With `replace` a folder that is enrolled turns to the coordinator of the join string, and keeps its keys: other
    sites go on knowing it. Until that coordinator has answered nothing in it changes. `warn` is told what does not keep
    this PC from enrolling and will trouble it later: a clock that is wrong.

    Raises IdentityError for a bad join string, a refused token or an answer that does not fit it,
    StateError (ALREADY_EXISTS) when the folder is enrolled, ResourceError when nobody answers.
    """
    invitation = decode_invitation(join_string)
    with hold_identity(folder):
        if not replace:
            _require_new(folder)
        keys = make_keys(folder)
        answer = await _ask(invitation, keys, reach, timeout_s)
        accepted = _accept(invitation, keys, answer)
        if answer.coordinator_time and (fault := clocks_differ(time.time(), answer.coordinator_time)) is not None:
            warn(fault)
        begin_replacement(folder)
        save_identity(folder, accepted)
        return load_identity(folder)


def _require_new(folder: Path) -> None:
    if not is_enrolled(folder):
        return
    raise StateError(
        f"{folder} already holds the identity of the site {load_identity(folder).site}.",
        reason=ErrorReason.ALREADY_EXISTS,
        next_step="Use it with `ravan-agent run`, enrol into another folder, or turn this one to the coordinator of the"
        " join string with `--replace`.",
    )


async def _ask(
    invitation: Invitation, keys: DeviceKeys, reach: Reach, timeout_s: float
) -> enrolment_service_pb2.EnrolResponse:
    csr = certificate_request(keys.tls)
    request = enrolment_service_pb2.EnrolRequest(
        token_id=invitation.token_id,
        token_secret=invitation.token_secret,
        tls_csr=csr,
        identity_key=raw_public(keys.identity),
        identity_proof=sign_proof(keys.identity, token_id=invitation.token_id, tls_csr=csr),
        agent_version=VERSION,
    )

    async def call(channel: aio.Channel) -> enrolment_service_pb2.EnrolResponse:
        return await enrolment_service_pb2_grpc.EnrolmentServiceStub(channel).Enrol(request, timeout=timeout_s)

    return await ask(invitation.address, reach, invitation.ca_pem, call)


def _accept(invitation: Invitation, keys: DeviceKeys, answer: enrolment_service_pb2.EnrolResponse) -> Identity:
    """Check the answer against the join string and our own key before anything is kept."""
    certificate = load_certificate(answer.certificate_pem)
    authority = load_certificate(answer.ca_certificate_pem)
    caller = read_caller(answer.certificate_pem)
    if (
        authority.public_bytes(Encoding.DER) != invitation.ca_certificate
        or answer.manifest_key != invitation.manifest_key
        or not is_issued_by(certificate, authority)
        or public_info(certificate.public_key()) != public_info(keys.tls.public_key())
        or (caller.role, caller.name) != (Role.AGENT, answer.site)
    ):
        raise IdentityError(
            "The coordinator's answer does not fit the join string.",
            reason=ErrorReason.IDENTITY_MISMATCH,
            next_step="Ask HQ whether the coordinator was set up anew, and for a new join string.",
        )
    return Identity(
        site=SiteId(answer.site),
        address=invitation.address,
        tls_key=private_pem(keys.tls),
        certificate=answer.certificate_pem,
        ca_certificate=answer.ca_certificate_pem,
        identity_key=keys.identity,
        manifest_key=answer.manifest_key,
    )
