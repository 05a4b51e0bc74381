"""The model that a local server answers with: always the newest version that this PC keeps of a job."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from edge_agent.serving.body import questions_in
from edge_agent.serving.facts import model_facts
from edge_agent.serving.kept import KeptModel
from edge_agent.serving.output import json_fields
from edge_agent.serving.own_heads import OwnHeads
from edge_agent.serving.predictor import Predictor
from edge_agent.serving.shelf import ModelShelf
from ravan.errors import RavanError

log = structlog.stdlib.get_logger(__name__)


class ModelService:
    """Answer from threads, one question after the other; a newer version is taken up between two of them."""

    def __init__(
        self, job: str, shelf: ModelShelf, load: Callable[[KeptModel], Predictor], own: OwnHeads | None = None
    ) -> None:
        """Load the job's model, with this PC's own heads where `own` says where they are.

        Raise StateError where there is no model or are no heads for it, ModelError or TransferError.
        """
        self._job = job
        self._shelf = shelf
        self._load = load
        self._own = own
        self._lock = threading.Lock()
        self._mark = self._mark_of_now()
        self._predictor = self._opened(shelf.find(job))

    def describe(self) -> dict[str, Any]:
        """Return what is known of the model."""
        with self._lock:
            return {**model_facts(self._newest().kept), "personal": self._own is not None}

    def predict(self, body: object) -> dict[str, Any]:
        """Return the predictions for a request's JSON; raise DataError for one that asks nothing."""
        with self._lock:
            predictor = self._newest()
            predictions = predictor.answer(questions_in(body, predictor.task.training))
            return _shown(predictor.kept, [json_fields(each) for each in predictions])

    def _newest(self) -> Predictor:
        try:
            mark = self._mark_of_now()
            if mark != self._mark:
                self._look_again(self._shelf.find(self._job))
                self._mark = mark
        except (RavanError, OSError) as error:
            # What is in memory is as good as it was.
            log.warning("the newest version cannot be taken up", why=str(error))
        return self._predictor

    def _look_again(self, newest: KeptModel) -> None:
        if self._own is not None and not self._own.are_for(newest):
            log.warning(
                "goes on by this PC's own heads on top of an earlier version",
                job=self._job,
                round=self._predictor.kept.round_number,
                next_step=f"Train them on the newest: `ravan-agent personalise {self._job}`.",
            )
        elif self._own is not None or newest.state_digest != self._predictor.kept.state_digest:
            self._take_up(newest)

    def _take_up(self, newest: KeptModel) -> None:
        if newest.plan_digest == self._predictor.kept.plan_digest:
            self._predictor.follow(newest, self._own_state(newest))
        else:
            self._predictor = self._opened(newest)
        log.info("answers by a newer version", job=self._job, round=newest.round_number)

    def _opened(self, kept: KeptModel) -> Predictor:
        own = self._own_state(kept)
        predictor = self._load(kept)
        if own is not None:
            predictor.put(own)
        return predictor

    def _own_state(self, kept: KeptModel) -> bytes | None:
        return None if self._own is None else self._own.find(kept)

    def _mark_of_now(self) -> tuple[object, ...]:
        return self._shelf.mark(), None if self._own is None else self._own.mark()


def _shown(kept: KeptModel, predictions: list[dict[str, Any]]) -> dict[str, Any]:
    facts: Mapping[str, Any] = model_facts(kept)
    return {"job": facts["job"], "round": facts["round"], "version": facts["version"], "predictions": predictions}
