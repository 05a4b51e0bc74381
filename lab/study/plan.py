"""A study's plan: a TOML file that says beforehand everything that will be run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from lab.federation.capacity import Capacities
from lab.federation.partition import Split
from lab.methods.registry import METHODS
from lab.study.cell import Cell, Federation, Option, Part, Training
from lab.tasks.registry import TASKS
from ravan.configuration import STRICT, nearest_name, read_text
from ravan.errors import ConfigError, ErrorReason

_Value = TypeVar("_Value")
_Count = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
_Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
_Seed = Annotated[int, Field(ge=0)]


def _all_different(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    if len(set(values)) < len(values):
        raise ValueError("the same value stands there twice")
    return values


def _known(name: str, names: Iterable[str], what: str) -> str:
    if name not in names:
        raise ValueError(f"there is no {what} '{name}'. {nearest_name(name, names)}")
    return name


class _Table(BaseModel):
    model_config = STRICT


class StudyTable(_Table):
    """`[study]`."""

    name: _Name
    task: str
    seeds: Annotated[tuple[_Seed, ...], Field(min_length=1), AfterValidator(_all_different)]
    """One run each; the same for every method, so that differences are paired."""
    baseline: _Name
    """Method that the others are compared with."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        return _known(task, TASKS, "task")


class TrainingTable(_Table):
    """`[training]`: what all methods have in common."""

    rounds: _Count
    steps: _Count
    batch_size: _Count = 16
    dense_learning_rate: _Positive = 0.02
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    lora_rank: _Count = 8
    average_last: _Count = 3


class FederationTable(_Table):
    """`[[federation]]`: who takes part."""

    name: _Name
    split: Split
    clients: _Count
    per_round: _Count
    capacities: Capacities = Capacities.EQUAL
    alpha: _Positive = 0.3

    @model_validator(mode="after")
    def _check(self) -> FederationTable:
        if self.per_round > self.clients:
            raise ValueError(f"per_round = {self.per_round}, but there are {self.clients} clients")
        return self

    def settled(self) -> Federation:
        """Return it without its name."""
        return Federation(**self.model_dump(exclude={"name"}))


class MethodTable(_Table):
    """`[[method]]`: a method, or a variant of one."""

    name: _Name
    """What reports call it."""
    kind: _Name
    """Which method it is (`lab.methods.registry`)."""
    options: Mapping[str, bool | int | float | str] = {}
    learning_rate: _Positive | None = None
    """Where it is not tuned."""
    rates_of: _Name | None = None
    """A method whose tuned rate is taken over."""

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, kind: str) -> str:
        return _known(kind, METHODS, "method")

    @model_validator(mode="after")
    def _check(self) -> MethodTable:
        for name in self.options:
            _known(name, METHODS[self.kind].options, f"option of {self.kind}")
        if self.learning_rate is not None and self.rates_of is not None:
            raise ValueError(f"'{self.name}' has both a learning_rate and rates_of; leave one out")
        return self


class TuningTable(_Table):
    """`[tuning]`: successive halving over learning rates, the same for every method (Jamieson & Talwalkar 2016)."""

    rates: Annotated[tuple[_Positive, ...], Field(min_length=2), AfterValidator(_all_different)]
    rungs: Annotated[tuple[_Count, ...], Field(min_length=1)]
    """Rounds that the candidates of each rung are trained; half of them go on to the next."""
    seeds: Annotated[tuple[_Seed, ...], Field(min_length=1), AfterValidator(_all_different)]
    """None that a reported run has; a rate is as good as its mean over them."""
    average_last: _Count = 1


class Plan(_Table):
    """The whole file."""

    study: StudyTable
    training: TrainingTable
    federation: Annotated[tuple[FederationTable, ...], Field(min_length=1)]
    method: Annotated[tuple[MethodTable, ...], Field(min_length=1)]
    tuning: TuningTable | None = None

    @model_validator(mode="after")
    def _check(self) -> Plan:
        names = [method.name for method in self.method]
        if len(set(names)) < len(names) or len({each.name for each in self.federation}) < len(self.federation):
            raise ValueError("two methods or two federations have the same name")
        if self.study.baseline not in names:
            raise ValueError(f"baseline '{self.study.baseline}' is none of the methods")
        tuned = {method.name for method in self.method if method.learning_rate is None and method.rates_of is None}
        if tuned and self.tuning is None:
            raise ValueError(
                f"[tuning] is missing, and these methods have no learning_rate: {', '.join(sorted(tuned))}"
            )
        if self.tuning is not None and not tuned:
            raise ValueError("[tuning] is there, and every method has a learning_rate; leave one of them out")
        for method in self.method:
            if method.rates_of is not None and method.rates_of not in tuned:
                raise ValueError(f"rates_of = '{method.rates_of}' names no method that is tuned")
        if self.tuning is not None and set(self.tuning.seeds) & set(self.study.seeds):
            raise ValueError("[tuning] seeds has one of the seeds that are reported")
        return self

    def settled_training(self) -> Training:
        """Return what all cells have in common."""
        return Training(**self.training.model_dump())

    def tuned_methods(self) -> Iterator[MethodTable]:
        """Yield the methods whose rates are searched."""
        yield from (each for each in self.method if each.learning_rate is None and each.rates_of is None)

    def cell(self, federation: FederationTable, method: MethodTable, rate: float, seed: int, part: Part) -> Cell:
        """Return one run of the plan."""
        options: tuple[tuple[str, Option], ...] = tuple(sorted(method.options.items()))
        return Cell(
            task=self.study.task,
            federation=federation.settled(),
            training=self.settled_training(),
            method=method.kind,
            options=options,
            learning_rate=rate,
            seed=seed,
            part=part,
        )


def load_plan(path: Path) -> Plan:
    """Read a plan; raise ConfigError with what is wrong in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as UTF-8 text.",
            reason=ErrorReason.CONFIG_INVALID,
            next_step="Name a plan: a TOML file as in lab/plans.",
        ) from error
    return read_text(Plan, text, source=str(path))
