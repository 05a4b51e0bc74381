"""The job plan in its serialised form."""

from __future__ import annotations

import itertools

from ravan.codec import enums, fields
from ravan.codec.references import file_from_wire, file_to_wire
from ravan.ids import JobId
from ravan.manifest.plan import (
    TEXT_SLOT,
    AdapterSettings,
    DenseParameter,
    JobPlan,
    LabelRule,
    Matrix,
    Precision,
    Task,
    TrainingSettings,
)
from ravan.version import PROTOCOL_VERSION
from ravan.wire.v1 import round_pb2

_DIMENSION = (1 << 31) - 1
_MATRICES = (1 << 24) - 1
_IMAGE_SIDE = 1 << 14


def encode_plan(plan: JobPlan) -> bytes:
    """Serialise a plan; equal plans give equal bytes."""
    wire = round_pb2.JobPlan(
        protocol_version=PROTOCOL_VERSION,
        run_id=plan.run_id,
        job_id=plan.job_id,
        job_name=plan.job_name,
        model_name=plan.model_name,
        model_files=map(file_to_wire, plan.model_files),
        adapter=_adapter_to_wire(plan.adapter),
        matrices=map(_matrix_to_wire, plan.matrices),
        dense=(round_pb2.DenseParameter(ordinal=p.ordinal, name=p.name, shape=p.shape) for p in plan.dense),
        training=_training_to_wire(plan.training),
        denominator=enums.DENOMINATOR.to_wire(plan.denominator),
        # Plans from before there was a choice have no such field, and keep their bytes.
        precision=enums.PRECISION.to_wire(None if plan.precision is Precision.FLOAT32 else plan.precision),
        directions=plan.directions,
    )
    return wire.SerializeToString(deterministic=True)


def decode_plan(payload: bytes) -> JobPlan:
    """Parse a plan and check that it holds together; raise ProtocolError (MALFORMED)."""
    wire = fields.parse(round_pb2.JobPlan, payload, "job plan")
    check_version(wire.protocol_version)
    plan = JobPlan(
        run_id=fields.run_id(wire.run_id),
        job_id=JobId(fields.text(wire.job_id, "job id")),
        job_name=fields.text(wire.job_name, "job name"),
        model_name=fields.text(wire.model_name, "model name"),
        model_files=tuple(map(file_from_wire, wire.model_files)),
        adapter=_adapter_from_wire(wire.adapter),
        matrices=tuple(map(_matrix_from_wire, wire.matrices)),
        dense=tuple(map(_dense_from_wire, wire.dense)),
        training=_training_from_wire(wire.training),
        denominator=enums.DENOMINATOR.from_wire(wire.denominator),
        precision=enums.PRECISION.from_wire(wire.precision),
        directions=fields.optional_digest(wire.directions, "digest of directions"),
    )
    _check_lists(plan)
    return plan


def check_version(version: int) -> None:
    """Raise unless a document was written for this version of the protocol."""
    if version != PROTOCOL_VERSION:
        raise fields.malformed(
            f"The document is of protocol version {version}; this program speaks {PROTOCOL_VERSION}."
        )


def _check_lists(plan: JobPlan) -> None:
    paths = [file.path for file in plan.model_files]
    if not paths or any(a >= b for a, b in itertools.pairwise(paths)):
        raise fields.malformed("The plan's model files are missing, listed twice or not in order.")
    for what, ordinals in (
        ("matrices", [matrix.ordinal for matrix in plan.matrices]),
        ("dense parameters", [parameter.ordinal for parameter in plan.dense]),
    ):
        if ordinals != list(range(len(ordinals))):
            raise fields.malformed(f"The plan's {what} are not numbered from 0 without gaps.")
    fields.unique(tuple(matrix.name for matrix in plan.matrices), "matrix names")
    fields.unique(tuple(parameter.name for parameter in plan.dense), "names of dense parameters")
    if bool(plan.adapter.heads) != bool(plan.matrices):
        raise fields.malformed("The plan has heads without matrices, or matrices without heads.")
    if bool(plan.directions) != (plan.adapter.basis.is_led and bool(plan.matrices)):
        raise fields.malformed("The plan's bases lack the directions that they lead with, or have no use for them.")


def _adapter_to_wire(value: AdapterSettings) -> round_pb2.AdapterSettings:
    return round_pb2.AdapterSettings(
        heads=value.heads,
        rank=value.rank,
        basis=enums.BASIS_KIND.to_wire(value.basis),
        seed=value.seed,
        epoch=value.epoch,
        train_scales=value.train_scales,
    )


def _adapter_from_wire(wire: round_pb2.AdapterSettings) -> AdapterSettings:
    return AdapterSettings(
        heads=fields.ranged(wire.heads, 0, (1 << 16) - 1, "number of heads"),
        rank=fields.ranged(wire.rank, 0 if wire.heads == 0 else 1, _DIMENSION, "rank"),
        basis=enums.BASIS_KIND.from_wire(wire.basis),
        seed=fields.fixed(wire.seed, 32, "seed of the bases"),
        epoch=fields.ranged(wire.epoch, 0, (1 << 16) - 1, "epoch"),
        train_scales=wire.train_scales,
    )


def _matrix_to_wire(value: Matrix) -> round_pb2.Matrix:
    return round_pb2.Matrix(
        ordinal=value.ordinal,
        name=value.name,
        out_features=value.out_features,
        in_features=value.in_features,
        basis_digest=value.basis_digest,
        rank=value.rank,
    )


def _matrix_from_wire(wire: round_pb2.Matrix) -> Matrix:
    return Matrix(
        ordinal=fields.ranged(wire.ordinal, 0, _MATRICES, "ordinal of a matrix"),
        name=fields.text(wire.name, "name of a matrix"),
        out_features=fields.ranged(wire.out_features, 1, _DIMENSION, "number of rows of a matrix"),
        in_features=fields.ranged(wire.in_features, 1, _DIMENSION, "number of columns of a matrix"),
        basis_digest=fields.digest(wire.basis_digest, "basis digest"),
        rank=fields.ranged(wire.rank, 0, _DIMENSION, "rank of a matrix"),
    )


def _dense_from_wire(wire: round_pb2.DenseParameter) -> DenseParameter:
    if not wire.shape:
        raise fields.malformed("A dense parameter has no shape.")
    return DenseParameter(
        ordinal=fields.ranged(wire.ordinal, 0, _MATRICES, "ordinal of a dense parameter"),
        name=fields.text(wire.name, "name of a dense parameter"),
        shape=tuple(fields.ranged(size, 1, _DIMENSION, "dimension of a dense parameter") for size in wire.shape),
    )


def _training_to_wire(value: TrainingSettings) -> round_pb2.TrainingSettings:
    return round_pb2.TrainingSettings(
        task=enums.TASK.to_wire(value.task),
        data=value.data,
        labels=value.labels,
        max_length=value.max_length,
        batch_size=value.batch_size,
        steps=value.steps,
        optimiser=enums.OPTIMISER.to_wire(value.optimiser),
        learning_rate=value.learning_rate,
        dense_learning_rate=value.dense_learning_rate,
        weight_decay=value.weight_decay,
        learning_rate_decay=value.learning_rate_decay,
        prompt=value.prompt,
        image_side=value.image_side,
        channels=value.channels,
        window_step=value.window_step,
        label_rule=enums.LABEL_RULE.to_wire(None if value.label_rule is LabelRule.LAST else value.label_rule),
        label_frequencies=value.label_frequencies,
    )


def _training_from_wire(wire: round_pb2.TrainingSettings) -> TrainingSettings:
    training = TrainingSettings(
        task=enums.TASK.from_wire(wire.task),
        data=fields.text(wire.data, "name of the data"),
        labels=fields.unique(tuple(fields.text(label, "label") for label in wire.labels), "labels"),
        max_length=fields.ranged(wire.max_length, 1, _DIMENSION, "text length"),
        batch_size=fields.ranged(wire.batch_size, 1, _DIMENSION, "batch size"),
        steps=fields.ranged(wire.steps, 1, _DIMENSION, "number of steps"),
        optimiser=enums.OPTIMISER.from_wire(wire.optimiser),
        learning_rate=fields.number(wire.learning_rate, "learning rate"),
        dense_learning_rate=fields.number(wire.dense_learning_rate, "learning rate of dense blocks"),
        weight_decay=fields.number(wire.weight_decay, "weight decay"),
        learning_rate_decay=fields.share(wire.learning_rate_decay, "learning rate decay"),
        prompt=fields.text(wire.prompt, "prompt", empty=True, lines=True),
        image_side=fields.ranged(wire.image_side, 0, _IMAGE_SIDE, "side of an image"),
        channels=fields.unique(tuple(fields.text(name, "channel") for name in wire.channels), "channels"),
        window_step=fields.ranged(wire.window_step, 0, _DIMENSION, "step of windows"),
        label_rule=enums.LABEL_RULE.from_wire(wire.label_rule),
        label_frequencies=tuple(fields.share(each, "frequency of a label") for each in wire.label_frequencies),
    )
    _check_inputs(training)
    return training


def _check_inputs(training: TrainingSettings) -> None:
    """Raise unless the settings say what the task's examples look like."""
    complete = {
        Task.SEQUENCE_CLASSIFICATION: True,
        Task.IMAGE_CLASSIFICATION: training.image_side > 0,
        Task.SERIES_CLASSIFICATION: bool(training.channels) and training.window_step > 0,
        Task.CAUSAL_LM: training.prompt.count(TEXT_SLOT) == 1,
    }
    if not complete[training.task]:
        raise fields.malformed(f"The plan does not say what the examples of {training.task} look like.")
    if training.label_frequencies and len(training.label_frequencies) != len(training.labels):
        raise fields.malformed(
            f"The plan has {len(training.label_frequencies)} frequencies for {len(training.labels)} labels."
        )
