"""Texts: maintenance work orders of five excavators with MiniLM; nature's split is by machine.

The held-out fifth is the demo's and headquarters' (`deploy.demo.work_orders`). A tenth of the other texts, chosen by
the text alone as well, is for choosing learning rates.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deploy.demo.work_orders import (
    LABELS,
    SITES,
    WorkOrder,
    installed_model,
    installed_table,
    is_held_out,
    read_work_orders,
)
from lab.tasks.settings import classification
from lab.tasks.task import LabTask
from ravan.data.texts import TextExamples
from ravan.manifest.plan import Task
from ravan.tasks.loading import load_task_model

VALIDATION_SHARE: Final = 0.1


def load_work_orders() -> LabTask:
    """Read, tokenise and split the work orders."""
    pool, validation, test = split_work_orders()
    settings = classification(Task.SEQUENCE_CLASSIFICATION, LABELS, max_length=32)
    task = load_task_model(installed_model(), settings)
    return LabTask(
        name="work_orders",
        task=task,
        pool=task.encode(_examples(pool)),
        owners=machines_of(pool),
        labels=subsystems_of(pool),
        validation=task.encode(_examples(validation)),
        test=task.encode(_examples(test)),
        targets=("query", "value"),
    )


def split_work_orders() -> tuple[list[WorkOrder], list[WorkOrder], list[WorkOrder]]:
    """Return what is trained on, what rates are chosen by, and what is tested on."""
    orders = list(read_work_orders(installed_table()))
    rest = [order for order in orders if not is_held_out(order.text)]
    return (
        [order for order in rest if not _is_validation(order.text)],
        [order for order in rest if _is_validation(order.text)],
        [order for order in orders if is_held_out(order.text)],
    )


def machines_of(orders: list[WorkOrder]) -> NDArray[np.int64]:
    """Return the number of each one's machine."""
    return np.asarray([SITES.index(order.site) for order in orders], np.int64)


def subsystems_of(orders: list[WorkOrder]) -> NDArray[np.int64]:
    """Return the number of each one's label."""
    return np.asarray([LABELS.index(order.subsystem) for order in orders], np.int64)


def _is_validation(text: str) -> bool:
    digest = hashlib.sha256(text.lower().encode()).digest()
    return int.from_bytes(digest[8:16]) < VALIDATION_SHARE * 2**64


def _examples(orders: list[WorkOrder]) -> TextExamples:
    return TextExamples(
        texts=tuple(order.text for order in orders),
        label_ids=tuple(subsystems_of(orders).tolist()),
        left_out=0,
    )
