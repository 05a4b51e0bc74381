"""The agent's composition root: reads the identity, builds all parts, runs until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from edge_agent.audit.trail import AuditTrail
from edge_agent.config import AgentFile
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.memory import agent_bytes
from edge_agent.hardware.probe import HardwareProbe, training_threads
from edge_agent.host.sensors import HostSensors
from edge_agent.host.watch import HostWatch
from edge_agent.identity.keystore import Identity, load_identity
from edge_agent.identity.lock import hold_identity
from edge_agent.identity.reach import reach_of
from edge_agent.secure.keeping import QuantisedKeeper
from edge_agent.secure.notes import PROCESS_ID_BYTES, Opening, find_left_round
from edge_agent.service.notify import ServiceNotifier
from edge_agent.service.switch import StopSwitch
from edge_agent.serving.collector import VersionCollector
from edge_agent.serving.shelf import MODELS_FOLDER, ModelShelf
from edge_agent.session.acceptance import SiteTerms
from edge_agent.session.acquaintance_file import AcquaintanceFile
from edge_agent.session.activity import ActivityBoard
from edge_agent.session.client import AgentSession
from edge_agent.session.connection import Coordinator
from edge_agent.session.job_desk import JobDesk
from edge_agent.session.lane import Lane
from edge_agent.session.ledger import RoundLedger
from edge_agent.session.machine import SessionMachine
from edge_agent.session.renewals import Renewals
from edge_agent.session.round_desk import RoundDesk, RoundSettings
from edge_agent.session.round_training import RoundTraining
from edge_agent.storage.blob_cache import BlobCache
from edge_agent.worker.companion import WorkerProcess
from edge_agent.worker.port import Worker
from edge_agent.worker.process import WorkerSettings
from ravan.clock import SystemClock
from ravan.heap import give_back_at_once
from ravan.identity.keyfiles import make_private_folder
from ravan.identity.keys import raw_public
from ravan.offline import stay_offline
from ravan.rpc.otlp import open_exporter
from ravan.tracing.recording import Tracer
from ravan.version import VERSION

log = structlog.stdlib.get_logger(__name__)

ROUNDS_FOLDER: Final = "rounds"
"""In an agent's state."""


def run_agent(config: AgentFile, keep_quantised: Path | None, switch: StopSwitch | None = None) -> None:
    """Run the daemon until SIGTERM, Ctrl-C or the switch; raise RavanError when it cannot start or may not go on."""
    stay_offline()
    give_back_at_once()
    identity = load_identity(config.agent.identity_dir)
    notifier = ServiceNotifier.of(os.environ)
    # The site is on every line, whatever wrote it: collectors have the lines of many.
    with hold_identity(config.agent.identity_dir), structlog.contextvars.bound_contextvars(site=identity.site):
        asyncio.run(_run(config, identity, keep_quantised, notifier, switch or StopSwitch()))


async def _run(
    config: AgentFile,
    identity: Identity,
    keep_quantised: Path | None,
    notifier: ServiceNotifier,
    switch: StopSwitch,
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        # Windows has no such handlers on its loop; there Ctrl-C ends the process as usual.
        with suppress(NotImplementedError):
            loop.add_signal_handler(each, stop.set)
    switch.connect(lambda: loop.call_soon_threadsafe(stop.set))
    log.info("ravan-agent started", version=VERSION, coordinator=identity.address.host)
    if keep_quantised is not None:
        log.warning(
            "this site's updates will be written in the clear, as --keep-quantised asks", to=str(keep_quantised)
        )
    traces = open_exporter(config.tracing, "ravan-agent", identity.site)
    memory = config.agent.state_dir / "coordinator"
    coordinator = Coordinator(identity, reach_of(config.agent, os.environ), memory)
    worker = build_worker(config)
    try:
        session = build_session(config, identity, coordinator, worker, keep_quantised, Tracer(traces))
        if traces is not None:
            log.info("the times of this site's rounds go to a collector of traces", collector=config.tracing.endpoint)
            traces.start()
        await _serve(session, identity, stop, notifier)
    finally:
        switch.disconnect()
        if traces is not None:
            await traces.stop()
        await coordinator.close()
        await asyncio.to_thread(worker.close)
    log.info("ravan-agent ended")


async def _serve(session: AgentSession, identity: Identity, stop: asyncio.Event, notifier: ServiceNotifier) -> None:
    """Run the session, and keep the service manager informed."""
    # Started, not connected: a PC whose line is down for a day is in order, and is not to be started again for that.
    notifier.ready()
    telling = asyncio.create_task(notifier.run(stop, lambda: f"site {identity.site}: {session.describe()}"))
    try:
        await session.run(stop)
    finally:
        stop.set()
        await telling


def build_worker(config: AgentFile) -> WorkerProcess:
    """Return the worker, whose process starts with its first order."""
    return WorkerProcess(
        WorkerSettings(
            config=config,
            threads=training_threads(config.agent.threads),
            log_level=logging.getLogger().level,
            agent_pid=os.getpid(),
        )
    )


def build_session(
    config: AgentFile,
    identity: Identity,
    coordinator: Coordinator,
    worker: Worker,
    keep_quantised: Path | None,
    tracer: Tracer | None = None,
) -> AgentSession:
    """Join all parts of a session; must run on the session's event loop. Without a tracer nothing is traced."""
    clock, state_dir = SystemClock(), config.agent.state_dir
    left = _take_over(state_dir / ROUNDS_FOLDER)
    # Whoever goes on with a round is for the coordinator the one that began it.
    process_id = os.urandom(PROCESS_ID_BYTES) if left is None else left.process_id
    make_private_folder(state_dir)
    ledger = RoundLedger(state_dir / "rounds.json")
    acquaintances = AcquaintanceFile(state_dir)
    acquaintances.read()  # a damaged file is said now, not at the first round
    limits = LimitReader(
        configured_mb=config.agent.ram_limit_mb,
        keep_free_mb=config.host.keep_free_mb,
        held_bytes=lambda: agent_bytes(worker.pid),
    )
    shelf = ModelShelf(state_dir / MODELS_FOLDER)
    share = config.agent.disk_share()
    cache = BlobCache(config.agent.cache_dir, share, shelf.plans)
    downloads = coordinator.downloads(cache, config.agent.download_kib_per_s)
    lane = Lane(low_priority=config.host.low_priority, rest_after_s=config.agent.unload_after_s or None)
    board = ActivityBoard(process_id, asyncio.get_running_loop(), lambda: worker.pid)
    sensors = HostSensors(lambda: worker.pid)
    watch = HostWatch(config.host.terms(), sensors.read, worker.stand_aside, board.pause)
    jobs = JobDesk(
        state_dir=state_dir,
        cache_dir=config.agent.cache_dir,
        threads=training_threads(config.agent.threads),
        worker=worker,
        downloads=downloads,
        lane=lane,
        board=board,
        limits=limits,
    )
    rounds = RoundDesk(
        settings=replace(
            round_settings(config, identity, process_id, AuditTrail(state_dir, clock), keep_quantised),
            tracer=tracer or Tracer(),
        ),
        coordinator=coordinator,
        jobs=jobs,
        training=RoundTraining(worker, limits, board, watch, checkpoint_s=config.agent.checkpoint_s),
        downloads=downloads,
        uploads=coordinator.uploads(config.agent.upload_kib_per_s),
        lane=lane,
        board=board,
    )
    return AgentSession(
        process_id=process_id,
        manifest_key=identity.manifest_key,
        machine=SessionMachine(
            site_terms(config, identity), ledger.rounds, left.reference if left is not None else None
        ),
        ledger=ledger,
        acquaintances=acquaintances,
        coordinator=coordinator,
        renewals=Renewals(config.agent.identity_dir, coordinator, clock),
        jobs=jobs,
        rounds=rounds,
        versions=VersionCollector(shelf, downloads.fetch, identity.manifest_key, clock),
        lane=lane,
        board=board,
        watch=watch,
        probe=HardwareProbe(limits, share),
        clock=clock,
    )


def round_settings(
    config: AgentFile, identity: Identity, process_id: bytes, audit: AuditTrail, keep_quantised: Path | None
) -> RoundSettings:
    """Return what the site fixes for all of its rounds."""
    return RoundSettings(
        process_id=process_id,
        identity_key=identity.identity_key,
        minimum_bundle_threshold=config.policy.minimum_bundle_threshold,
        folder=config.agent.state_dir / ROUNDS_FOLDER,
        keeper=QuantisedKeeper(keep_quantised) if keep_quantised is not None else None,
        audit=audit,
    )


def _take_over(rounds: Path) -> Opening | None:
    """Return the round to go on with; where it is not clear which, what is left of rounds is deleted."""
    left = find_left_round(rounds)
    if left is None:
        shutil.rmtree(rounds, ignore_errors=True)
    return left


def site_terms(config: AgentFile, identity: Identity) -> SiteTerms:
    """Return what the site agrees to."""
    return SiteTerms(
        site=identity.site,
        identity_key=raw_public(identity.identity_key),
        minimum_bundle_threshold=config.policy.minimum_bundle_threshold,
        allowed_models=frozenset(config.policy.allowed_models),
        allowed_jobs=frozenset(config.policy.allowed_jobs),
        minimum_steps=config.policy.minimum_steps,
        owner_key=bytes.fromhex(config.policy.owner_key),
    )
