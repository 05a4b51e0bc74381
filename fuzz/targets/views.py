"""What an operator's commands show of a coordinator's answers."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf.message import Message

from coordinator.cli.absence import describe_absence
from coordinator.cli.live_view import render_watched
from coordinator.cli.plain import to_plain
from coordinator.cli.tables import render_job, show_models, show_site_details, show_sites
from coordinator.cli.watching import Narrator
from fuzz.target import Format, Target
from fuzz.values import DENSE, HEADS, JOB, digest
from ravan.codec import enums, fields
from ravan.errors import ErrorReason, ProtocolError
from ravan.manifest.phases import AgentActivity, DropReason, JobState, RoundOutcome, RoundPhase, SiteState
from ravan.wire.v1 import hardware_pb2, operator_service_pb2, site_service_pb2

_NOW: Final = 1.8e9


def _shown(
    name: str, message: type[Message], show: Callable[[Any], object], seeds: Callable[[], Iterable[Message]]
) -> Format:
    def read(data: bytes) -> None:
        view = fields.parse(message, data, name)
        with contextlib.redirect_stdout(io.StringIO()):
            show(view)
        json.dumps(to_plain(view))

    return Format(name=name, read=read, seeds=lambda: (seed.SerializeToString() for seed in seeds()), message=message)


def _show_job(view: operator_service_pb2.WatchJobResponse) -> None:
    Narrator().tell(view)
    render_job(view.job)
    render_watched(view, _NOW)


def _show_sites(view: operator_service_pb2.ListSitesResponse) -> None:
    show_sites([(each, describe_absence(each, [])) for each in view.sites], now=_NOW)
    for site in view.sites[:1]:
        show_site_details(site, now=_NOW)


def _show_models(view: operator_service_pb2.ListModelsResponse) -> None:
    show_models(view.models)


def _site() -> operator_service_pb2.Site:
    return operator_service_pb2.Site(
        name="plant-0",
        state=enums.SITE_STATE.to_wire(SiteState.ONLINE),
        last_seen=_NOW - 5,
        certificate_expires_at=_NOW + 1e6,
        hardware=hardware_pb2.HardwareProfile(cores=4, ram_limit_bytes=1 << 31),
        heartbeat=site_service_pb2.HeartbeatRequest(
            activity=enums.AGENT_ACTIVITY.to_wire(AgentActivity.TRAINING), done=1, total=9
        ),
    )


def _job_views() -> Iterable[Message]:
    round_ = operator_service_pb2.Round(
        number=1,
        phase=enums.ROUND_PHASE.to_wire(RoundPhase.ENDED),
        outcome=enums.ROUND_OUTCOME.to_wire(RoundOutcome.COMMITTED),
        phase_times=[operator_service_pb2.PhaseTime(phase=enums.ROUND_PHASE.to_wire(RoundPhase.TRAINING), seconds=2.5)],
        selected=["plant-0"],
        dropped=[
            operator_service_pb2.Drop(
                site="plant-1",
                phase=enums.ROUND_PHASE.to_wire(RoundPhase.TRAINING),
                reason=enums.DROP_REASON.to_wire(DropReason.DATA),
            )
        ],
        cohorts=[operator_service_pb2.HeadCohort(block_id=HEADS[0].pack(), survivors=3, score=0.25)],
        withheld=[DENSE.pack()],
        accuracy=0.5,
        loss=1.5,
    )
    job = operator_service_pb2.Job(
        job_id=JOB,
        name="orders",
        state=enums.JOB_STATE.to_wire(JobState.RUNNING),
        rounds=[
            round_,
            operator_service_pb2.Round(
                number=2,
                phase=enums.ROUND_PHASE.to_wire(RoundPhase.UPLOADING),
                phase_began_at=_NOW,
                deadline_at=_NOW + 60,
            ),
        ],
        accuracy=0.5,
        lead=operator_service_pb2.Lead(live=True, holder="hq-1", address="hq:8443", since=_NOW - 9, until=_NOW + 9),
        tasks=[operator_service_pb2.Work(kind=operator_service_pb2.WORK_KIND_UNMASK, holder="hq-2", since=_NOW)],
    )
    deed = operator_service_pb2.Deed(at=_NOW - 5, kind="job_paused", subject=JOB, actor="mia")
    yield operator_service_pb2.WatchJobResponse(job=job, sites=[_site()], deeds=[deed], now=_NOW)


def _site_lists() -> Iterable[Message]:
    yield operator_service_pb2.ListSitesResponse(sites=[_site()])


def _model_lists() -> Iterable[Message]:
    model = operator_service_pb2.Model(name="tiny", digest=digest("model"), model_type="bert", parameters=100)
    yield operator_service_pb2.ListModelsResponse(models=[model])


OPERATOR_VIEWS: Final = Target(
    name="operator-views",
    formats=(
        _shown("job", operator_service_pb2.WatchJobResponse, _show_job, _job_views),
        _shown("sites", operator_service_pb2.ListSitesResponse, _show_sites, _site_lists),
        _shown("models", operator_service_pb2.ListModelsResponse, _show_models, _model_lists),
    ),
    refusals={ProtocolError: frozenset({ErrorReason.MALFORMED})},
)
