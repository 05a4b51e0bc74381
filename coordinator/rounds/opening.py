"""Open a job's next round, or bring back one that was left; from here on the round leads itself."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from coordinator.rounds.active_round import ActiveRound
from coordinator.rounds.assigning import first_clips, write_assignment
from coordinator.rounds.course import RoundSetup
from coordinator.rounds.journal import read_journal
from coordinator.rounds.ports import Job
from coordinator.rounds.recording import RoundNotes
from coordinator.rounds.recovery import LeftRound
from coordinator.rounds.selection import Selection
from coordinator.rounds.services import Services
from coordinator.rounds.standing import Standing
from coordinator.store.records import SiteRecord
from ravan.errors import RavanError
from ravan.ids import BlockId, Digest, SiteId
from ravan.manifest.assignment import Assignment
from ravan.manifest.documents import SignedDocument

log = structlog.stdlib.get_logger(__name__)


class RoundOpener:
    """Open the rounds of one job."""

    def __init__(self, services: Services, job: Job, standing: Standing) -> None:
        self._services = services
        self._job = job
        self._standing = standing

    def open(
        self,
        selection: Selection,
        sites: Mapping[SiteId, SiteRecord],
        number: int,
        clips: Mapping[BlockId, float] | None,
    ) -> ActiveRound:
        """Return round `number`, planned for the selected sites; without `clips` it starts from the job's own."""
        services, job = self._services, self._job
        assignment = write_assignment(
            job,
            selection,
            number=number,
            state_digest=self._standing.record.state_digest,
            sites=sites,
            clips=clips or first_clips(job),
        )
        document, digest = services.signatory.sign_assignment(assignment)
        limits = {name: site.hardware.ram_limit_bytes for name, site in sites.items() if site.hardware is not None}
        notes = RoundNotes(started_at=services.clock.now(), ram_limits=limits)
        return self._set_up(assignment, document, digest, selection.training_deadline_s, notes)

    def reopen(self, left: LeftRound) -> tuple[ActiveRound, Mapping[SiteId, bytes]] | None:
        """Return a round as it was left, and the processes that were in it; None where that is not possible."""
        try:
            journal = read_journal(left.entries)
            assignment, digest = self._services.signatory.open_assignment(journal.document)
            notes = RoundNotes(
                started_at=left.record.started_at,
                ram_limits={site.site: site.ram_limit_bytes for site in left.record.sites},
            )
            found = self._set_up(assignment, journal.document, digest, journal.training_deadline_s, notes)
            found.replay(journal.events)
        except RavanError as error:
            log.error("a round cannot be taken up again", job=self._standing.record.name, why=str(error))
            return None
        return found, {site: journal.processes[site] for site in found.present}

    def _set_up(
        self,
        assignment: Assignment,
        document: SignedDocument,
        digest: Digest,
        training_deadline_s: float | None,
        notes: RoundNotes,
    ) -> ActiveRound:
        setup = set_up_round(self._job, assignment, document, digest, training_deadline_s)
        return ActiveRound(self._services, self._job, setup, notes, self._standing)


def set_up_round(
    job: Job, assignment: Assignment, document: SignedDocument, digest: Digest, training_deadline_s: float | None
) -> RoundSetup:
    """Return what a round of a job starts from; without a deadline of its own it has the job's."""
    return RoundSetup(
        assignment=assignment,
        document=document,
        digest=digest,
        training_deadline_s=training_deadline_s or job.file.round.training_budget_s,
        phase_deadline_s=job.file.round.phase_deadline_s,
    )
