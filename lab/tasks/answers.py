"""Answers in words: the work orders once more, with SmolLM2 that is to say the subsystem after a question.

The split is that of `work_orders`. Of validation and test as many are taken as a language model of this size answers in
seconds.
"""

from __future__ import annotations

from typing import Final

from deploy.demo.work_orders import WorkOrder
from deploy.examples.orders import PROMPT, write_smollm2
from lab.tasks.made_folder import made_once
from lab.tasks.settings import answering
from lab.tasks.task import LabTask
from lab.tasks.work_orders import machines_of, split_work_orders, subsystems_of
from ravan.data.texts import AnswerExamples
from ravan.tasks.loading import load_task_model

_VALIDATION: Final = 128
_TEST: Final = 512


def load_answers() -> LabTask:
    """Read, tokenise and split the work orders; the first time the model is unpacked, which takes a minute."""
    pool, validation, test = split_work_orders()
    task = load_task_model(made_once("smollm2", write_smollm2), answering(PROMPT, max_length=48))
    return LabTask(
        name="answers",
        task=task,
        pool=task.encode(_examples(pool)),
        owners=machines_of(pool),
        labels=subsystems_of(pool),
        validation=task.encode(_examples(validation[:_VALIDATION])),
        test=task.encode(_examples(test[:_TEST])),
        targets=("q_proj", "v_proj"),
    )


def _examples(orders: list[WorkOrder]) -> AnswerExamples:
    return AnswerExamples(
        texts=tuple(order.text for order in orders),
        answers=tuple(order.subsystem for order in orders),
        left_out=0,
    )
