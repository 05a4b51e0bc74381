"""One transaction on the database: every statement that the coordinator sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, bindparam, delete, select
from sqlalchemy.dialects import sqlite

from coordinator.store.records import (
    AnswerRecord,
    JobProfileRecord,
    JobRecord,
    ModelRecord,
    RoundEntry,
    RoundRecord,
    SiteRecord,
    TokenRecord,
)
from coordinator.store.sql import rows
from coordinator.store.sql.auditing import AuditStatements
from coordinator.store.sql.leasing import LeaseStatements
from coordinator.store.sql.tables import (
    ANSWERS,
    INSTRUCTIONS,
    JOB_PROFILES,
    JOBS,
    MODELS,
    ROUND_ENTRIES,
    ROUNDS,
    SEQUENCES,
    SITES,
    TIMELINES,
    TOKENS,
)
from ravan.codec.instructions import decode_instruction, encode_instruction
from ravan.ids import JobId, SiteId
from ravan.manifest.instructions import Instruction, Numbered

_LATER_INSTRUCTIONS: Final = (
    select(INSTRUCTIONS.c.sequence, INSTRUCTIONS.c.payload)
    .where(INSTRUCTIONS.c.site == bindparam("site"), INSTRUCTIONS.c.sequence > bindparam("after"))
    .order_by(INSTRUCTIONS.c.sequence)
)


class SqlTransaction(LeaseStatements, AuditStatements):
    """Reads and writes of one open transaction; see `coordinator.store.base.Transaction`.

    Names are put in order here: databases order text by the rules of whatever language they were made for.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._dialect = connection.dialect.name
        self._insert = _insert_of(self._dialect)

    def put_token(self, token: TokenRecord) -> None:
        """Insert or replace by id."""
        self._put(TOKENS, rows.token_to_row(token))

    def get_token(self, token_id: str) -> TokenRecord | None:
        """Return the token of this id."""
        row = self._first(select(TOKENS).where(TOKENS.c.token_id == token_id))
        return None if row is None else rows.token_from_row(row)

    def list_open_tokens(self) -> Sequence[TokenRecord]:
        """Return tokens that nobody has used, oldest first; expired ones too, as the store has no clock."""
        unused = select(TOKENS).where(TOKENS.c.used_at.is_(None)).order_by(TOKENS.c.created_at, TOKENS.c.token_id)
        return [rows.token_from_row(row) for row in self._all(unused)]

    def put_site(self, site: SiteRecord) -> None:
        """Insert or replace by name."""
        self._put(SITES, rows.site_to_row(site))

    def get_site(self, name: SiteId) -> SiteRecord | None:
        """Return the site of this name."""
        row = self._first(select(SITES).where(SITES.c.name == name))
        return None if row is None else rows.site_from_row(row)

    def list_sites(self) -> Sequence[SiteRecord]:
        """Return all sites by name, revoked ones too."""
        return sorted(map(rows.site_from_row, self._all(select(SITES))), key=lambda site: site.name)

    def put_model(self, model: ModelRecord) -> None:
        """Insert or replace by name."""
        self._put(MODELS, rows.model_to_row(model))

    def list_models(self) -> Sequence[ModelRecord]:
        """Return all models by name."""
        return sorted(map(rows.model_from_row, self._all(select(MODELS))), key=lambda model: model.name)

    def put_job(self, job: JobRecord) -> None:
        """Insert or replace by id."""
        self._put(JOBS, rows.job_to_row(job))

    def get_job(self, job_id: JobId) -> JobRecord | None:
        """Return the job of this id."""
        return self._job(select(JOBS).where(JOBS.c.job_id == job_id))

    def find_job(self, id_or_name: str) -> JobRecord | None:
        """Return the job of this id, else the newest of this name."""
        named = select(JOBS).where(JOBS.c.name == id_or_name)
        return self.get_job(JobId(id_or_name)) or self._job(_newest_first(named))

    def find_job_by_request(self, request_id: str) -> JobRecord | None:
        """Return the job that this request made."""
        return self._job(select(JOBS).where(JOBS.c.request_id == request_id))

    def list_jobs(self) -> Sequence[JobRecord]:
        """Return all jobs, newest first."""
        return [rows.job_from_row(row) for row in self._all(_newest_first(select(JOBS)))]

    def put_job_profile(self, profile: JobProfileRecord) -> None:
        """Insert or replace by job and site."""
        self._put(JOB_PROFILES, rows.job_profile_to_row(profile))

    def list_job_profiles(self, job_id: JobId) -> Sequence[JobProfileRecord]:
        """Return the job's profiles by site."""
        found = self._all(select(JOB_PROFILES).where(JOB_PROFILES.c.job_id == job_id))
        return sorted(map(rows.job_profile_from_row, found), key=lambda profile: profile.site)

    def put_round(self, record: RoundRecord) -> None:
        """Insert or replace by job and number."""
        self._put(ROUNDS, rows.round_to_row(record))

    def list_rounds(self, job_id: JobId) -> Sequence[RoundRecord]:
        """Return the job's rounds by number."""
        found = select(ROUNDS).where(ROUNDS.c.job_id == job_id).order_by(ROUNDS.c.number)
        return [rows.round_from_row(row) for row in self._all(found)]

    def add_round_entries(self, job_id: JobId, number: int, entries: Sequence[RoundEntry]) -> None:
        """Append to what a round has heard."""
        if entries:
            found = [{"job_id": job_id, "number": number, **rows.entry_to_row(entry)} for entry in entries]
            self.connection.execute(self._insert(ROUND_ENTRIES), found)

    def list_round_entries(self, job_id: JobId, number: int) -> Sequence[RoundEntry]:
        """Return what a running round has heard, in order."""
        columns = ROUND_ENTRIES.c
        found = select(columns.kind, columns.at, columns.site, columns.word, columns.payload)
        own = found.where(columns.job_id == job_id, columns.number == number)
        return [rows.entry_from_row(row) for row in self._all(own.order_by(columns.position))]

    def drop_round_entries(self, job_id: JobId) -> None:
        """Forget what the rounds of a job have heard."""
        self.connection.execute(delete(ROUND_ENTRIES).where(ROUND_ENTRIES.c.job_id == job_id))

    def add_instruction(self, site: SiteId, instruction: Instruction, *, job_id: JobId, round_number: int) -> int:
        """Append to the site's stream and return its sequence number."""
        sequence = int(self.connection.execute(_advance(self._dialect), {"site": site, "last": 1}).scalar_one())
        row = {
            "site": site,
            "sequence": sequence,
            "job_id": job_id,
            "round_number": round_number,
            "payload": encode_instruction(instruction),
        }
        self.connection.execute(_append(self._dialect, INSTRUCTIONS), row)
        return sequence

    def instructions_after(self, site: SiteId, sequence: int) -> Sequence[Numbered]:
        """Return the site's instructions with a higher number, in order."""
        later = self.connection.execute(_LATER_INSTRUCTIONS, {"site": site, "after": sequence})
        return [Numbered(sequence=number, instruction=decode_instruction(payload)) for number, payload in later]

    def drop_instructions(self, job_id: JobId, *, before_round: int | None = None, site: SiteId | None = None) -> None:
        """Forget a job's instructions: all, or those of rounds 1 to before `before_round`; of one site or of all."""
        given: dict[str, object] = {"job_id": job_id}
        if before_round is not None:
            given["last_round"] = before_round - 1
        if site is not None:
            given["site"] = site
        self.connection.execute(_drop_instructions(tuple(given)), given)

    def put_answer(self, answer: AnswerRecord) -> None:
        """Insert or replace by request id."""
        self._put(ANSWERS, rows.answer_to_row(answer))

    def get_answer(self, request_id: str) -> AnswerRecord | None:
        """Return the answer to the call of this id."""
        row = self._first(select(ANSWERS).where(ANSWERS.c.request_id == request_id))
        return None if row is None else rows.answer_from_row(row)

    def drop_answers(self, *, before: float) -> None:
        """Forget answers that were given before this time."""
        self.connection.execute(delete(ANSWERS).where(ANSWERS.c.answered_at < before))

    def begin_timeline(self, timeline: bytes, at: float) -> None:
        """Name the database anew; later times win."""
        self._put(TIMELINES, {"timeline": timeline, "began_at": at})

    def current_timeline(self) -> bytes:
        """Return the newest name."""
        newest = select(TIMELINES.c.timeline).order_by(TIMELINES.c.began_at.desc()).limit(1)
        return bytes(self.connection.execute(newest).scalar_one())

    def _put(self, table: Table, row: rows.Row) -> None:
        self.connection.execute(_upsert(self._dialect, table, tuple(row)), row)

    def _job(self, query: Select[Any]) -> JobRecord | None:
        row = self._first(query)
        return None if row is None else rows.job_from_row(row)

    def _first(self, query: Select[Any]) -> rows.Row | None:
        return next(iter(self._all(query.limit(1))), None)

    def _all(self, query: Select[Any]) -> Sequence[rows.Row]:
        result = self.connection.execute(query)
        columns = tuple(result.keys())
        return [dict(zip(columns, row, strict=True)) for row in result]


def _insert_of(dialect: str) -> Callable[[Table], Any]:
    """Return the database's own INSERT, since only that knows what to do when the key is there already."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - only where such a database is configured

        return postgresql.insert
    return sqlite.insert


# Made once: SQLAlchemy takes longer to make a statement than the database to carry it out.


@lru_cache
def _append(dialect: str, table: Table) -> Any:
    return _insert_of(dialect)(table)


@lru_cache
def _upsert(dialect: str, table: Table, columns: tuple[str, ...]) -> Any:
    """Return an update in place where the key is there already: REPLACE would delete a row that others refer to."""
    statement = _insert_of(dialect)(table)
    given = {column: statement.excluded[column] for column in columns}
    return statement.on_conflict_do_update(index_elements=table.primary_key, set_=given)


@lru_cache
def _drop_instructions(given: tuple[str, ...]) -> Any:
    columns = INSTRUCTIONS.c
    conditions = {
        "job_id": columns.job_id == bindparam("job_id"),
        "last_round": columns.round_number.between(1, bindparam("last_round")),
        "site": columns.site == bindparam("site"),
    }
    return delete(INSTRUCTIONS).where(*(conditions[name] for name in given))


@lru_cache
def _advance(dialect: str) -> Any:
    """Return the statement that gives a site's next sequence number; its parameters are those of the first one."""
    statement = _insert_of(dialect)(SEQUENCES)
    following = {"last": SEQUENCES.c.last + 1}
    return statement.on_conflict_do_update(index_elements=SEQUENCES.primary_key, set_=following).returning(
        SEQUENCES.c.last
    )


def _newest_first(query: Select[Any]) -> Select[Any]:
    return query.order_by(JOBS.c.submitted_at.desc(), JOBS.c.job_id.desc())
