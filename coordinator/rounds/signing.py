"""Serialise and sign the documents of jobs and rounds with the manifest key."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ravan.codec.documents import (
    encode_assignment,
    encode_plan,
    encode_roster,
    open_document,
    sign_document,
)
from ravan.ids import Digest
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import DocumentKind, SignedDocument
from ravan.manifest.plan import JobPlan
from ravan.manifest.roster import Roster
from ravan.secagg.transcript import document_digest


@dataclass(frozen=True, slots=True)
class Signatory:
    """Hold the manifest key; every method returns the document with its digest."""

    key: Ed25519PrivateKey = field(repr=False)

    def sign_plan(self, plan: JobPlan) -> tuple[SignedDocument, Digest]:
        """Sign a job plan."""
        return self._sign(DocumentKind.PLAN, encode_plan(plan))

    def sign_assignment(self, assignment: Assignment) -> tuple[SignedDocument, Digest]:
        """Sign an assignment."""
        return self._sign(DocumentKind.ASSIGNMENT, encode_assignment(assignment))

    def sign_roster(self, roster: Roster) -> tuple[SignedDocument, Digest]:
        """Sign a roster."""
        return self._sign(DocumentKind.ROSTER, encode_roster(roster))

    def open_plan(self, document: SignedDocument) -> tuple[JobPlan, Digest]:
        """Read a plan that this key signed; raise ProtocolError for any other."""
        return open_document(DocumentKind.PLAN, document, self.key.public_key().public_bytes_raw())

    def open_assignment(self, document: SignedDocument) -> tuple[Assignment, Digest]:
        """Read an assignment that this key signed; raise ProtocolError for any other."""
        return open_document(DocumentKind.ASSIGNMENT, document, self.key.public_key().public_bytes_raw())

    def _sign(self, kind: DocumentKind, payload: bytes) -> tuple[SignedDocument, Digest]:
        return sign_document(kind, payload, self.key), document_digest(kind, payload)
