"""The job file: what an operator writes to have a model fine-tuned. Every key is documented here.

`sample.py` holds a complete file with comments; a test keeps both in step.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, model_validator

from coordinator.allocation.cells import least_cell
from coordinator.allocation.policy import AllocationPolicy
from coordinator.jobs.measure import Gate, Measure
from coordinator.jobs.task_defaults import TASK_DEFAULTS
from coordinator.jobs.values import (
    Count,
    Deadline,
    HeldOutFormat,
    Labels,
    Name,
    NotNegative,
    Positive,
    Prompt,
    Rank,
    Seconds,
    Seed,
    Share,
    Targets,
    Text,
)
from ravan.codec import fields
from ravan.configuration import STRICT, read_text
from ravan.data.source import DataSource, TableFormat
from ravan.manifest.assignment import BUNDLE_FLOOR, MAX_GROUP, MAX_MEMBERS, Suite, Weighting
from ravan.manifest.plan import (
    TEXT_SLOT,
    BasisKind,
    Denominator,
    LabelRule,
    Optimiser,
    Precision,
    Task,
    TrainingSettings,
)
from ravan.releases import checked_release

MAX_HEADS: Final = 1024
"""Heads per matrix; far beyond use, and well inside the 16 bits that a block id has for them."""


class SuiteName(StrEnum):
    """Keystreams by the names that job files use."""

    AUTO = "auto"
    AES_128_CTR = "aes-128-ctr"
    AES_256_CTR = "aes-256-ctr"
    CHACHA20 = "chacha20"

    def choose(self, *, aes_everywhere: bool) -> Suite:
        """Return the suite of a round; without AES instructions AES is slow, and not constant in time."""
        if self is SuiteName.AUTO:
            return Suite.AES_128_CTR if aes_everywhere else Suite.CHACHA20
        return Suite[self.name]


class ExpectedLabels(StrEnum):
    """Where the frequencies that the trained model expects come from."""

    HELD_OUT = "held_out"
    """The held-out examples at headquarters."""
    EQUAL = "equal"
    """All labels are equally frequent."""
    LOCAL = "local"
    """Each site's own: the plain loss, under which sites teach one another what they see often."""


class Profile(StrEnum):
    """How much each site counts."""

    UNIFORM = "uniform"
    """All the same."""
    WEIGHTED = "weighted"
    """By the size of their data."""


class _Table(BaseModel):
    model_config = STRICT


class JobTable(_Table):
    """`[job]`: what to run, and for how long."""

    name: Name
    """Name of the job; several jobs may share one, and commands then mean the newest."""
    rounds: Count
    """Rounds to run, at the most."""
    minimum_rounds: Count = 1
    """Rounds that are run in any case."""
    patience: Count | None = None
    """Rounds in a row without a better version after which the job ends; when left out, all `rounds` are run."""
    minimum_improvement: NotNegative = 0.0
    """By how much a version must be better to count as such: in shares of 1 (accuracy), or in nats (loss)."""
    minimum_agent_version: Annotated[str, AfterValidator(checked_release)] = ""
    """Oldest agent that takes part, where the coordinator's own configuration asks for none that is newer."""

    @model_validator(mode="after")
    def _check_rounds(self) -> JobTable:
        if self.minimum_rounds > self.rounds:
            raise ValueError(
                f"minimum_rounds = {self.minimum_rounds} is more than rounds = {self.rounds}, the most that are run"
            )
        return self


class ModelTable(_Table):
    """`[model]`: the base model."""

    name: Name
    """Name that `model add` gave it."""
    precision: Precision = Precision.FLOAT32
    """How its weights are held in memory, at the sites and for evaluation."""


class AdapterTable(_Table):
    """`[adapter]`: the Ravan heads."""

    heads: Annotated[int, Field(strict=True, ge=0, le=MAX_HEADS)] = 4
    """Heads per adapted matrix; 0 trains the new classifier alone."""
    rank: Rank = "auto"
    """r: each head trains r x r numbers; `auto` takes for each matrix the largest r within `lora_rank`'s budget."""
    lora_rank: Count = 8
    """Budget for `rank = "auto"`: in no matrix more numbers than plain LoRA of this rank would train."""
    targets: Targets = ("query", "value")
    """Linear layers to adapt, by the last parts of their names or by role: `attention`, `mlp`, `all`."""
    basis: BasisKind | None = None
    """Where the fixed bases come from: found with the held-out examples, or drawn in one of the paper's ways. When left
    out, what suits the task (`task_defaults.py`)."""
    seed: Seed = ""
    """64 hexadecimal digits from which all bases follow; drawn at random when left out."""
    train_scales: Annotated[bool, Field(strict=True)] = True
    """Whether each head's scale is trained beside its core."""


class TrainingTable(_Table):
    """`[training]`: what each site does in a round."""

    task: Task = Task.SEQUENCE_CLASSIFICATION
    """What the model is trained to do."""
    data: Name
    """Name of the `[data.NAME]` table in each site's own configuration."""
    labels: Labels = ()
    """Class names as they stand in the data; their order is the order of the model's outputs."""
    max_length: Count = 64
    """Tokens per text; longer ones are cut. Windows of sensor values are as long as the model wants them."""
    prompt: Prompt = ""
    """Causal language model: what stands before the answer, with `{text}` where the example's text goes."""
    image_side: Annotated[int, Field(strict=True, ge=0, le=1 << 14)] = 0
    """Images: pixels of both sides that each is scaled to; 0 takes what the base model was trained on."""
    window_step: Count = 1
    """Sensor values: rows from the start of one window to the next."""
    label_rule: LabelRule = LabelRule.LAST
    """Sensor values: the label of a window whose rows have several: of its `last` row, of the `majority`, or of `any`
    row, where the one that stands last in `labels` counts."""
    expected_labels: ExpectedLabels = ExpectedLabels.HELD_OUT
    """Classification: how frequent the trained model is to expect each label, where sites differ in what they see."""
    batch_size: Count = 32
    """Examples per step."""
    steps: Count = 40
    """Steps per round, the same for every site."""
    optimiser: Optimiser = Optimiser.ADAMW
    """Local optimiser; it starts afresh in every round."""
    learning_rate: Positive | None = None
    """For the heads; when left out, what suits the task."""
    dense_learning_rate: Positive | None = None
    """For the new classifier; when left out, what suits the task."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    learning_rate_decay: Share = 1.0
    """Factor on both learning rates from one round to the next; below 1, late rounds settle what early ones found."""

    def settled(self) -> TrainingSettings:
        """Return it as a plan has it, but for what model and held-out examples decide."""
        usual = TASK_DEFAULTS[self.task]
        rates = {
            "learning_rate": self.learning_rate or usual.learning_rate,
            "dense_learning_rate": self.dense_learning_rate or usual.dense_learning_rate,
        }
        return TrainingSettings(**{name: value for name, value in self if name != "expected_labels"} | rates)

    @model_validator(mode="after")
    def _check_task(self) -> TrainingTable:
        if self.task is Task.CAUSAL_LM:
            if not self.prompt:
                raise ValueError(f'prompt is missing, such as "Work order: {TEXT_SLOT}\\nSubsystem:"')
        elif not self.labels:
            raise ValueError("labels is missing: the names of the classes as they stand in the data")
        return self


class RoundTable(_Table):
    """`[round]`: when a round starts and how long it waits."""

    minimum_sites: Annotated[int, Field(strict=True, ge=BUNDLE_FLOOR, le=MAX_MEMBERS)] | None = None
    """Ready sites that a round waits for; when left out, as many as `bundle_threshold` needs."""
    target_sites: Annotated[int, Field(strict=True, ge=BUNDLE_FLOOR, le=MAX_MEMBERS)] | None = None
    """Sites that should finish a round; more are asked, by the drop-out observed. When left out, all ready ones."""
    training_deadline_s: Deadline = 1800.0
    """Seconds that sites have for training; `auto` takes them from what the round's sites have measured."""
    longest_training_s: Seconds = 1800.0
    """`auto`: the most that it comes to, and what heads are allotted within."""
    phase_deadline_s: Seconds = 60.0
    """Seconds that sites have for each later phase."""
    denominator: Denominator = Denominator.TRAINERS
    """Divide a head's sum by the sites that trained it, or by all sites of the round."""

    @property
    def training_budget_s(self) -> float:
        """Return the seconds that an allotment's training must fit in."""
        return self.longest_training_s if self.training_deadline_s == "auto" else self.training_deadline_s

    @property
    def budget_key(self) -> str:
        """Return the key that the budget stands under."""
        return "longest_training_s" if self.training_deadline_s == "auto" else "training_deadline_s"


class SecureAggregationTable(_Table):
    """`[secure_aggregation]`: how updates are hidden."""

    bundle_threshold: Annotated[int, Field(strict=True, ge=BUNDLE_FLOOR, le=MAX_GROUP)] = 8
    """Least sites in a sum before anybody may see it; a head with fewer keeps its value for that round."""
    profile: Profile = Profile.UNIFORM
    """`uniform`: every site counts the same. `weighted`: by the size of its data, which takes many more sites."""
    examples_per_weight: Count = 16
    """Weighted profile: examples that make one unit of weight."""
    weight_limit: Annotated[int, Field(strict=True, ge=1, le=255)] = 255
    """Weighted profile: largest weight of a site."""
    cell_threshold: Annotated[int, Field(strict=True, ge=BUNDLE_FLOOR, le=MAX_GROUP // 4)] | None = None
    """Weighted profile: least sites of a cell that may be in a sum; when left out, `bundle_threshold`."""
    cell_minimum: Annotated[int, Field(strict=True, ge=BUNDLE_FLOOR, le=MAX_GROUP // 4)] | None = None
    """Weighted profile: least sites in a cell; when left out, as many as keep `cell_threshold` with a tenth lost."""
    ring_bits: Literal[16, 24, 32] = 24
    """Bits of a masked number: 16 for thin lines, 32 for studies that compare with plain floating point."""
    rotate: Annotated[bool, Field(strict=True)] = False
    """Spread each core's weight over its numbers before they are rounded, where the rank is a power of two."""
    suite: SuiteName = SuiteName.AUTO
    """Keystream of the masks; `auto`: AES-128, or ChaCha20 in rounds with a PC without AES instructions."""
    clip: Positive = 8.0
    """L2 bound of a block's change in the first round; it widens by itself where sites report clipping."""

    def weighting(self) -> Weighting | None:
        """Return the terms of the weighted profile, None in the uniform one."""
        if self.profile is Profile.UNIFORM:
            return None
        threshold = self.cell_threshold or self.bundle_threshold
        return Weighting(
            limit=self.weight_limit,
            unit=self.examples_per_weight,
            cell_minimum=self.cell_minimum or least_cell(threshold),
            cell_threshold=threshold,
        )


class EvaluationTable(_Table):
    """`[evaluation]`: the held-out file at headquarters."""

    data: Text
    """The file, relative to the job file; `job submit` sends it along. No site ever gets it. Images: a zip file."""
    format: HeldOutFormat = TableFormat.CSV
    """How a table is written: `csv` or `jsonl`."""
    text: Text = "text"
    """Column that holds the texts."""
    label: Text = "label"
    """Column that holds the labels or answers."""
    group: Annotated[str, StringConstraints(max_length=fields.TEXT_LIMIT)] = ""
    """Column that tells series apart, such as one of the machine; empty where all rows are one series."""
    columns: dict[Text, Text] = {}
    """Columns of the model's channels, where they are called otherwise than the channels."""
    measure: Measure = Measure.ACCURACY
    """By which figure a better version is told from a worse one: `accuracy` or `loss`."""
    gate: Gate = Gate.FINITE
    """Which new versions are refused: those whose loss is not `finite`, or also those that are worse: `not_worse`."""
    gate_tolerance: NotNegative = 0.0
    """`not_worse`: by how much a version may be worse than the one before, in shares of 1 or in nats."""


class AllocationTable(_Table):
    """`[allocation]`: who trains which heads."""

    policy: AllocationPolicy = AllocationPolicy.COVERAGE
    """Which heads a site trains first: from the top layer down, at `random` each round, by `weight` or `gradient`."""
    share: Share | None = None
    """Part of the heads that a site can hold which it trains; when left out, 1 for `coverage` and 0.5 otherwise."""
    spare_sites: Annotated[int, Field(strict=True, ge=0, le=MAX_GROUP)] = 0
    """Sites beyond `bundle_threshold` that must be able to hold a head before anybody trains it."""

    def share_trained(self) -> float:
        """Return the part of the heads in its reach that a site trains."""
        if self.share is not None:
            return self.share
        # All that a site can hold leaves nothing to rank.
        return 1.0 if self.policy is AllocationPolicy.COVERAGE else 0.5


class JobFile(_Table):
    """A whole job file."""

    job: JobTable
    model: ModelTable
    adapter: AdapterTable = AdapterTable()
    training: TrainingTable
    round: RoundTable = RoundTable()
    secure_aggregation: SecureAggregationTable = SecureAggregationTable()
    evaluation: EvaluationTable
    allocation: AllocationTable = AllocationTable()

    @model_validator(mode="after")
    def _check_cohort(self) -> JobFile:
        if self.round.minimum_sites is not None and self.round.minimum_sites < self.secure_aggregation.bundle_threshold:
            raise ValueError(
                f"[round] minimum_sites = {self.round.minimum_sites} starts rounds in which nothing can be released, "
                f"since [secure_aggregation] bundle_threshold is {self.secure_aggregation.bundle_threshold}; "
                "raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _check_target(self) -> JobFile:
        if self.round.target_sites is not None and self.round.target_sites < self.minimum_sites:
            raise ValueError(
                f"[round] target_sites = {self.round.target_sites} is less than the {self.minimum_sites} sites that a"
                " round waits for; raise it, or lower minimum_sites"
            )
        return self

    @model_validator(mode="after")
    def _check_weighting(self) -> JobFile:
        weighting = self.secure_aggregation.weighting()
        if weighting is None:
            return self
        if weighting.cell_minimum < weighting.cell_threshold or weighting.cell_threshold > MAX_GROUP // 4:
            raise ValueError(
                f"[secure_aggregation] cell_threshold = {weighting.cell_threshold} asks for more sites than a cell of "
                f"{weighting.cell_minimum} has, or for more than {MAX_GROUP // 4}; lower it or raise cell_minimum"
            )
        if self.round.denominator is Denominator.COHORT:
            raise ValueError(
                'denominator = "cohort" cannot be weighted: weights of a head are known for its own trainers alone; '
                'use "trainers", or profile = "uniform"'
            )
        if self.minimum_sites < 2 * weighting.cell_minimum:
            raise ValueError(
                f"[round] minimum_sites = {self.minimum_sites} is less than two cells of {weighting.cell_minimum}; "
                f"raise it to {2 * weighting.cell_minimum}, or lower cell_minimum"
            )
        return self

    @property
    def basis(self) -> BasisKind:
        """Return where the bases come from."""
        return self.adapter.basis or TASK_DEFAULTS[self.training.task].basis

    @property
    def minimum_sites(self) -> int:
        """Return how many ready sites a round waits for."""
        if self.round.minimum_sites is not None:
            return self.round.minimum_sites
        weighting = self.secure_aggregation.weighting()
        return self.secure_aggregation.bundle_threshold if weighting is None else 2 * weighting.cell_minimum


def read_job_file(text: str, *, source: str) -> JobFile:
    """Read the TOML text of a job file, called `source` in sentences; raise ConfigError CONFIG_INVALID."""
    return read_text(JobFile, text, source=source)


def held_out_source(job: JobFile, path: Path) -> DataSource:
    """Return the held-out data as a job describes them; `path` is where they lie now."""
    table = job.evaluation
    return DataSource(
        path=path,
        name=Path(table.data).name,
        format=table.format,
        text=table.text,
        label=table.label,
        group=table.group,
        columns=table.columns,
    )


def evaluation_path(job: JobFile, job_path: Path) -> Path:
    """Return where the held-out file lies, relative to the job file; it may not exist."""
    return job_path.parent / job.evaluation.data
