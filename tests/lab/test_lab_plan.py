"""A plan file: what it says, and a sentence for whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_plans import PLAN, TUNED
from tiny_lab import tiny_task

from lab.federation.capacity import Capacities
from lab.federation.partition import Split
from lab.study.cell import Federation, Part, Training
from lab.study.plan import Plan, load_plan
from lab.tasks import registry
from ravan.configuration import read_text
from ravan.errors import ConfigError

PLANS = Path(__file__).resolve().parents[2] / "lab" / "plans"


@pytest.fixture(autouse=True)
def _tiny_task_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.TASKS, "tiny", tiny_task)


def plan_of_text(text: str) -> Plan:
    return read_text(Plan, text, source="plan.toml")


def test_a_plan_says_every_run() -> None:
    plan = plan_of_text(PLAN)
    [federation], [ravan, fedit] = plan.federation, plan.method
    cell = plan.cell(federation, ravan, 0.01, 2, Part.TEST)
    assert cell.task == "tiny"
    assert cell.federation == Federation(
        split=Split.IID, clients=2, per_round=2, capacities=Capacities.EQUAL, alpha=0.3
    )
    assert cell.training == Training(
        rounds=2,
        steps=1,
        batch_size=4,
        dense_learning_rate=0.02,
        learning_rate_decay=1.0,
        lora_rank=2,
        average_last=1,
    )
    assert (cell.method, cell.learning_rate, cell.seed, cell.part) == ("ravan", 0.01, 2, Part.TEST)
    assert cell.options == (("basis", "normal"), ("heads", 2), ("train_scales", False))
    assert [cell.option(name, "-") for name in ("heads", "train_scales", "clip")] == [2, False, "-"]
    assert plan.cell(federation, fedit, 0.003, 1, Part.TEST).options == ()


def test_methods_are_tuned_unless_their_rate_is_given_or_anothers() -> None:
    assert [method.name for method in plan_of_text(TUNED).tuned_methods()] == ["ravan", "fedit"]
    assert list(plan_of_text(PLAN).tuned_methods()) == []


@pytest.mark.parametrize("path", sorted(PLANS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_plan_of_the_laboratory_can_be_read(path: Path) -> None:
    assert load_plan(path).study.seeds


@pytest.mark.parametrize(
    ("was", "is_now", "sentence", "next_step"),
    [
        ('task = "tiny"', 'task = "tinny"', r"`study\.task`: there is no task 'tinny'. Did you mean `tiny`\?", ""),
        ('kind = "fedit"', 'kind = "fed_it"', "there is no method 'fed_it'. Did you mean `fedit`", ""),
        ("heads = 2", "head = 2", "there is no option of ravan 'head'. Did you mean `heads`", ""),
        ("seeds = [1, 2]", "seeds = []", "`study.seeds` tuple should have at least 1 item", ""),
        ("seeds = [1, 2]", "seeds = [1, 1]", "`study.seeds`: the same value stands there twice", ""),
        ("seeds = [1, 2]", "seeds = [-1]", "greater than or equal to 0", ""),
        ('baseline = "ravan"', 'baseline = "raven"', "baseline 'raven' is none of the methods", ""),
        ("per_round = 2", "per_round = 3", "per_round = 3, but there are 2 clients", ""),
        ("clients = 2", "clients = 0", "greater than or equal to 1", ""),
        ('split = "iid"', 'split = "idd"', "`federation.0.split` should be", ""),
        ('name = "fedit"', 'name = "ravan"', "two methods or two federations have the same name", ""),
        ("learning_rate = 0.003", "", r"\[tuning\] is missing, and these methods have no learning_rate: fedit", ""),
        ("learning_rate = 0.003", "learning_rate = 0.0", "greater than 0", ""),
        ("learning_rate = 0.003", "learning_rate = inf", "finite", ""),
        ("learning_rate = 0.003", 'rates_of = "ravan"', "rates_of = 'ravan' names no method that is tuned", ""),
        (
            "learning_rate = 0.003",
            'learning_rate = 0.003\nrates_of = "ravan"',
            "'fedit' has both a learning_rate and rates_of",
            "",
        ),
        ("rounds = 2", "round = 2", "`training.round` is not a known key", "Did you mean `rounds`?"),
        ("rounds = 2", "", "`training.rounds` is missing", r"Add `rounds` to \[training\]."),
        ("rounds = 2", 'rounds = "two"', "`training.rounds` should be a valid|whole number", ""),
        ("[training]", "[training", "is not valid TOML", "Correct that line."),
        ('name = "tiny"', 'name = "../tiny"', "`study.name`", ""),
    ],
)
def test_each_mistake_has_a_sentence(was: str, is_now: str, sentence: str, next_step: str) -> None:
    assert was in PLAN
    with pytest.raises(ConfigError, match=sentence) as refused:
        plan_of_text(PLAN.replace(was, is_now, 1))
    assert str(refused.value).startswith("plan.toml")
    assert refused.value.next_step
    if next_step:
        assert refused.value.next_step.replace("[", r"\[").replace("]", r"\]") == next_step


@pytest.mark.parametrize(
    ("was", "is_now", "sentence"),
    [
        ("seeds = [99]", "seeds = [99, 2]", r"\[tuning\] seeds has one of the seeds that are reported"),
        ("seeds = [99]", "seeds = [-2]", "greater than or equal to 0"),
        ("rungs = [1, 2, 4]", "rungs = []", "at least 1 item"),
        ("rungs = [1, 2, 4]", "rungs = [0]", "greater than or equal to 1"),
        ("rates = [0.001, 0.003, 0.01, 0.03, 0.1]", "rates = [0.1]", "at least 2 items"),
        ("rates = [0.001, 0.003, 0.01, 0.03, 0.1]", "rates = [0.1, 0.1]", "the same value stands there twice"),
        ('rates_of = "ravan"', 'rates_of = "floor"', "rates_of = 'floor' names no method that is tuned"),
        ('rates_of = "ravan"', 'rates_of = "normal"', "rates_of = 'normal' names no method that is tuned"),
        ("alpha = 0.5", "alpha = 0", "greater than 0"),
        (
            TUNED[TUNED.index('name = "ravan"\nkind') :],
            'name = "ravan"\nkind = "ravan"\nlearning_rate = 0.1\n',
            r"\[tuning\] is there, and every method has a learning_rate",
        ),
    ],
)
def test_so_has_each_mistake_about_tuning(was: str, is_now: str, sentence: str) -> None:
    assert was in TUNED
    with pytest.raises(ConfigError, match=sentence):
        plan_of_text(TUNED.replace(was, is_now, 1))


@pytest.mark.parametrize("garbage", [b"\xff\xfe\x00", b"\x00", b"study = 1", b"", b"[[study]]\n"])
def test_garbage_is_refused_as_a_plan(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "plan.toml"
    path.write_bytes(garbage)
    with pytest.raises(ConfigError, match=r"plan\.toml") as refused:
        load_plan(path)
    assert refused.value.next_step
