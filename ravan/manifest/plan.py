"""The job plan: everything about a job that stays the same in all of its rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from ravan.ids import BlockId, BlockKind, Digest, JobId, RunId


class Task(StrEnum):
    """What the model is trained to do."""

    SEQUENCE_CLASSIFICATION = "sequence_classification"
    """Tell the label of a text."""
    IMAGE_CLASSIFICATION = "image_classification"
    """Tell the label of an image."""
    SERIES_CLASSIFICATION = "series_classification"
    """Tell the label of a window of sensor values."""
    CAUSAL_LM = "causal_lm"
    """Go on after a prompt with the answer; what stands before the answer is not learnt."""


NO_DIGEST: Final = Digest(b"")
"""Stands where there is no file."""

TEXT_SLOT: Final = "{text}"
"""Where a prompt takes in the example's text."""


class BasisKind(StrEnum):
    """Where the fixed bases B_i and A_i of a head come from; all but `aligned` from the paper's section 4."""

    ALIGNED = "aligned"
    """They lead with the directions in which the held-out examples' loss falls fastest."""
    GRAM_SCHMIDT = "gram_schmidt"
    NORMAL = "normal"
    SHARED = "shared"
    CONSTANT = "constant"

    @property
    def is_led(self) -> bool:
        """Tell whether they lead with directions that travel as a file, beside what follows from the job's seed."""
        return self is BasisKind.ALIGNED

    @property
    def is_orthogonal(self) -> bool:
        """Tell whether all heads of a matrix are orthogonal to each other, for which it must have the room."""
        return self in {BasisKind.ALIGNED, BasisKind.GRAM_SCHMIDT}


class LabelRule(StrEnum):
    """Which label a window of sensor values has, when its rows have several."""

    LAST = "last"
    """That of the last row."""
    MAJORITY = "majority"
    """That of most rows; of several such, the one that comes latest."""
    ANY = "any"
    """Of those that occur, the one that stands last in the job's list, which goes from harmless to grave."""


class Optimiser(StrEnum):
    """Local optimiser of the agents."""

    ADAMW = "adamw"


class Denominator(StrEnum):
    """What the sum of a head's products is divided by."""

    TRAINERS = "trainers"
    """Survivors that trained the head: the paper's equation 8."""
    COHORT = "cohort"
    """All survivors of the round."""


class Precision(StrEnum):
    """How the base model's weights are held in memory; heads and dense blocks are float32 throughout."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    """All weights, and what layers pass on."""
    INT8 = "int8"
    """Weights of linear layers, with one scale per output; everything else as under `bfloat16`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of the base model, fetched by hash."""

    path: str
    """Bare file name inside the model folder."""
    sha256: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """Shape of the Ravan heads."""

    heads: int
    """Heads per matrix; 0 trains the dense blocks alone."""
    rank: int
    """r: each core H_i is rank x rank, in every matrix without a rank of its own."""
    basis: BasisKind
    seed: bytes
    """32 bytes; all bases of the job follow from it."""
    epoch: int = 0
    """Generation of the bases."""
    train_scales: bool = True
    """Whether s_i is trained beside H_i."""

    def for_matrix(self, matrix: Matrix) -> AdapterSettings:
        """Return the settings with this matrix's own rank, where it has one."""
        return replace(self, rank=matrix.rank) if matrix.rank else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """One adapted weight W (out x in)."""

    ordinal: int
    """Position from the bottom of the model (0 = nearest the input); names the matrix in block ids."""
    name: str
    """Module name in the model as built for the task, e.g. `bert.encoder.layer.0.attention.self.query`."""
    out_features: int
    in_features: int
    basis_digest: Digest
    """SHA-256 of all bases of this matrix; an agent whose own differ downloads the basis blob."""
    rank: int = 0
    """r of this matrix's heads; 0 stands for the adapter's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseParameter:
    """A parameter outside the heads that is trained whole."""

    ordinal: int
    """Position in the list; names the parameter in block ids."""
    name: str
    """Parameter name in the model as built for the task, e.g. `classifier.weight`."""
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How each agent trains in a round; agents refuse a round whose settings differ."""

    task: Task
    data: str
    """Name of the `[data.NAME]` table that the site's own configuration holds."""
    labels: tuple[str, ...]
    """Class names; the position is the class index. Empty for a language model whose answers are free."""
    max_length: int
    """Tokens per text, longer ones are cut; rows of a window of sensor values."""
    batch_size: int
    steps: int
    """Mini-batch steps per round, the same for every site."""
    optimiser: Optimiser
    learning_rate: float
    """For H_i and s_i."""
    dense_learning_rate: float
    """For dense blocks."""
    weight_decay: float
    learning_rate_decay: float = 1.0
    """Factor on both learning rates from one round to the next."""
    prompt: str = ""
    """Causal language model: what stands before an answer, with `TEXT_SLOT` in it once."""
    image_side: int = 0
    """Images: pixels of both sides that each image is scaled to."""
    channels: tuple[str, ...] = ()
    """Sensor values: names of the model's inputs, in its order."""
    window_step: int = 0
    """Sensor values: rows from the start of one window to the next; means nothing elsewhere."""
    label_rule: LabelRule = LabelRule.LAST
    """Sensor values: which label a window has; the last row's elsewhere."""
    label_frequencies: tuple[float, ...] = ()
    """How frequent the model is to expect each label; empty: as at the sites that train it."""

    def rates_in(self, round_number: int) -> tuple[float, float]:
        """Return the learning rates of heads and of dense blocks in a round; rounds count from 1."""
        factor = self.learning_rate_decay ** (round_number - 1)
        return self.learning_rate * factor, self.dense_learning_rate * factor


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """Everything about a job that stays the same in all of its rounds."""

    run_id: RunId
    job_id: JobId
    job_name: str
    model_name: str
    model_files: tuple[ModelFile, ...]
    """Sorted by path."""
    adapter: AdapterSettings
    matrices: tuple[Matrix, ...]
    """In ordinal order; empty when `adapter.heads` is 0."""
    dense: tuple[DenseParameter, ...]
    """In ordinal order."""
    training: TrainingSettings
    denominator: Denominator
    precision: Precision = Precision.FLOAT32
    """How sites and headquarters hold the base model's weights."""
    directions: Digest = NO_DIGEST
    """SHA-256 of the file of directions that the bases lead with; empty where they are drawn from the seed alone."""

    def files(self) -> frozenset[Digest]:
        """Return all that headquarters stores for the whole job: the base model's files, and directions if any."""
        return frozenset(file.sha256 for file in self.model_files) | ({self.directions} - {NO_DIGEST})

    def head_ids(self) -> tuple[BlockId, ...]:
        """Return the id of every head, by matrix, then index."""
        epoch = self.adapter.epoch
        return tuple(
            BlockId(BlockKind.HEAD, epoch, m.ordinal, i) for m in self.matrices for i in range(self.adapter.heads)
        )

    def matrices_reached(self, blocks: Iterable[BlockId]) -> int:
        """Return how many matrices from the top a step passes through that trains these blocks.

        Those above the lowest trained one count, trained or not.
        """
        count = len(self.matrices)
        return count - min((block.matrix for block in blocks if block.kind is BlockKind.HEAD), default=count)

    def dense_ids(self) -> tuple[BlockId, ...]:
        """Return the id of every dense block, in ordinal order."""
        return tuple(BlockId(BlockKind.DENSE, 0, p.ordinal, 0) for p in self.dense)
