"""`docs/audit.md` lists every kind of record, and says of the hash what a program needs."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

from audit_chains import ordinary_chain
from pages import read_page, read_rows, read_section

from coordinator.audit.chain import START, AuditKind, AuditRecord

PAGE = read_page("audit.md")


def test_every_kind_of_record_is_listed_once() -> None:
    rows = read_rows(read_section(PAGE, "## What is recorded"))
    assert [row[0] for row in rows] == [kind.value for kind in AuditKind]


def test_a_head_follows_from_what_the_page_says() -> None:
    assert '`"ravan/v1/audit-record"`' in PAGE
    records = ordinary_chain(3).records
    before = AuditRecord(sequence=0, at_ms=0, kind="", actor="", subject="", facts="", head=START.head)
    for earlier, record in pairwise((before, *records)):
        numbers = [number.to_bytes(8, "big") for number in (record.sequence, record.at_ms)]
        texts = [text.encode() for text in (record.kind, record.actor, record.subject, record.facts)]
        parts = [b"ravan/v1/audit-record", bytes.fromhex(earlier.head), *numbers, *texts]
        assert sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest() == record.head
