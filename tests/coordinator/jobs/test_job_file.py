"""Job files: what is read, what is refused, and in which words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from coordinator.jobs.jobfile import JobFile, evaluation_path, read_job_file
from coordinator.jobs.sample import write_sample
from coordinator.jobs.task_defaults import TASK_DEFAULTS
from ravan.errors import ConfigError, ErrorReason
from ravan.manifest.assignment import Suite
from ravan.manifest.plan import BasisKind, Denominator, Task

MINIMAL = """
[job]
name = "orders"
rounds = 3
[model]
name = "minilm"
[training]
data = "orders"
labels = ["engine", "pump"]
[evaluation]
data = "held-out.csv"
"""


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_job_file(text, source="job.toml")
    assert caught.value.reason is ErrorReason.CONFIG_INVALID
    return caught.value


def test_the_sample_holds_every_key_of_every_table() -> None:
    sample = tomllib.loads(re.sub(r"^# (?=[a-z_]+ = )", "", write_sample(), flags=re.MULTILINE))
    tables: dict[str, Any] = {name: field.annotation for name, field in JobFile.model_fields.items()}
    assert sample.keys() == tables.keys()
    for name, table in tables.items():
        assert issubclass(table, BaseModel)
        assert sample[name].keys() == table.model_fields.keys()


def test_the_sample_loads_and_states_the_true_defaults() -> None:
    sample = read_job_file(write_sample(), source="sample")
    assert sample.training.labels == ("engine", "hydraulic", "electrical")
    for line in write_sample().splitlines():
        stated = re.match(r'([a-z_]+) = ("[^"]*"|\[[^]]*\]|\S+) +# .*default', line)
        if stated is None or default_of(stated[1]) is None:
            continue
        value = tomllib.loads(f"value = {stated[2]}")["value"]
        assert default_of(stated[1]) == (tuple(value) if isinstance(value, list) else value), line


def test_the_sample_has_what_texts_get_by_default() -> None:
    sample = read_job_file(write_sample(), source="sample")
    usual = TASK_DEFAULTS[sample.training.task]
    stated = (sample.training.learning_rate, sample.training.dense_learning_rate, sample.adapter.basis)
    assert stated == (0.01, 0.02, BasisKind.ALIGNED)
    assert stated == (usual.learning_rate, usual.dense_learning_rate, usual.basis)


@pytest.mark.parametrize("task", Task)
def test_what_is_left_out_is_the_tasks_and_what_is_given_stays(task: Task) -> None:
    lines = f'task = "{task}"\nprompt = "{{text}}"\nlabels ='
    job = read_job_file(MINIMAL.replace("labels =", lines), source="job.toml")
    left_out, usual = job.training.settled(), TASK_DEFAULTS[task]
    assert (left_out.learning_rate, left_out.dense_learning_rate) == (usual.learning_rate, usual.dense_learning_rate)
    assert job.basis is usual.basis
    lines = f"learning_rate = 0.5\ndense_learning_rate = 0.25\n{lines}"
    text = MINIMAL.replace("labels =", lines).replace("[training]", '[adapter]\nbasis = "shared"\n[training]')
    job = read_job_file(text, source="job.toml")
    assert (job.training.settled().learning_rate, job.training.settled().dense_learning_rate) == (0.5, 0.25)
    assert job.basis is BasisKind.SHARED


def default_of(key: str) -> Any:
    fields = [t.annotation.model_fields for t in JobFile.model_fields.values() if t.annotation is not None]
    return next(table[key].default for table in fields if key in table)


def test_defaults_of_a_minimal_file() -> None:
    job = read_job_file(MINIMAL, source="job.toml")
    assert (job.adapter.heads, job.adapter.rank, job.basis) == (4, "auto", BasisKind.ALIGNED)
    assert job.minimum_sites == job.secure_aggregation.bundle_threshold == 8
    assert job.secure_aggregation.suite.choose(aes_everywhere=True) is Suite.AES_128_CTR
    assert job.secure_aggregation.suite.choose(aes_everywhere=False) is Suite.CHACHA20
    assert job.secure_aggregation.weighting() is None
    rates = job.training.settled()
    assert (rates.learning_rate, rates.dense_learning_rate) == (0.01, 0.02)
    assert job.round.denominator is Denominator.TRAINERS
    assert evaluation_path(job, Path("/plants/jobs/job.toml")) == Path("/plants/jobs/held-out.csv")


@pytest.mark.parametrize(
    ("old", "new", "sentence", "next_step"),
    [
        ("rounds = 3", "round = 3", "`job.round` is not a known key", "Did you mean `rounds`?"),
        ("[evaluation]", "[evalution]", "`evalution` is not a known key", "Did you mean `evaluation`?"),
        ("rounds = 3", "", "`job.rounds` is missing", "Add `rounds` to [job]."),
        ("rounds = 3", "rounds = 3\nminimum_rounds = 4", "minimum_rounds = 4 is more than rounds = 3", ""),
        ("rounds = 3", "rounds = 3\npatience = 0", "`job.patience` should be greater than or equal to 1", ""),
        ("rounds = 3", "rounds = 3\nminimum_improvement = -0.1", "`job.minimum_improvement` should be greater", ""),
        ("[evaluation]", '[evaluation]\ngate = "open"', "`evaluation.gate` should be 'finite' or 'not_worse'", ""),
        ("[evaluation]", '[evaluation]\nmeasure = "f1"', "`evaluation.measure` should be 'accuracy' or 'loss'", ""),
        ("[evaluation]", "[evaluation]\ngate_tolerance = inf", "`evaluation.gate_tolerance` should be", ""),
        (
            "[evaluation]",
            '[round]\ntraining_deadline_s = "long"\n[evaluation]',
            '`round.training_deadline_s`: must be "auto" or a number of seconds above 0',
            "",
        ),
        ("[evaluation]", "[round]\ntraining_deadline_s = 0\n[evaluation]", 'must be "auto" or a number of seconds', ""),
        ("[evaluation]", "[round]\ntraining_deadline_s = nan\n[evaluation]", 'must be "auto" or a number', ""),
        (
            "[evaluation]",
            "[round]\ntarget_sites = 7\n[evaluation]",
            "target_sites = 7 is less than the 8 sites that a round waits for",
            "",
        ),
        ("rounds = 3", "rounds = 0", "`job.rounds` should be greater than or equal to 1, but is 0", ""),
        ("rounds = 3", 'rounds = "3"', "`job.rounds` should be a whole number, but is '3'", ""),
        ("rounds = 3", "rounds = true", "`job.rounds` should be a whole number, but is True", ""),
        ('"orders"\nrounds', '"Work Orders"\nrounds', "`job.name`: must be 1 to 63 lower-case letters", ""),
        ('["engine", "pump"]', '["engine", "engine"]', "`training.labels`: must be two or more different names", ""),
        ('labels = ["engine", "pump"]', "", "labels is missing: the names of the classes", ""),
        ('["engine", "pump"]', '["engine"]', "`training.labels`: must be two or more different names", ""),
        ("labels =", 'task = "causal_lm"\nlabels =', "prompt is missing", ""),
        ("labels =", 'prompt = "Order:"\nlabels =', "`training.prompt`: must have {text} in it once", ""),
        ("labels =", 'prompt = "{text}{text}"\nlabels =', "`training.prompt`: must have {text} in it once", ""),
        ("labels =", 'prompt = "{text}\\t"\nlabels =', "and no control characters", ""),
        ("labels =", "image_side = 16385\nlabels =", "`training.image_side` should be less than or equal", ""),
        ("labels =", 'label_rule = "first"\nlabels =', "`training.label_rule` should be 'last', 'majority' or", ""),
        (
            "labels =",
            'expected_labels = "even"\nlabels =',
            "`training.expected_labels` should be 'held_out', 'equal' or",
            "",
        ),
        ("[evaluation]", '[evaluation]\nformat = "parquet"', "held-out data are a file of csv or jsonl", ""),
        ("labels =", "window_step = 0\nlabels =", "`training.window_step` should be greater than or equal", ""),
        ("labels =", 'task = "regression"\nlabels =', "`training.task` should be 'sequence_classification'", ""),
        ("labels =", "learning_rate = nan\nlabels =", "`training.learning_rate` should be", ""),
        ("labels =", "learning_rate = -1.0\nlabels =", "`training.learning_rate` should be greater than 0", ""),
        ("[evaluation]", '[adapter]\nrank = "big"\n[evaluation]', '`adapter.rank`: must be "auto" or a whole num', ""),
        ("[evaluation]", "[adapter]\nheads = -1\n[evaluation]", "`adapter.heads` should be greater than or equal", ""),
        ("[evaluation]", '[adapter]\nbasis = "gram"\n[evaluation]', "'gram_schmidt', 'normal', 'shared' or 'con", ""),
        ("[evaluation]", '[adapter]\nseed = "ab"\n[evaluation]', "`adapter.seed`: must be 64 hexadecimal digits", ""),
        ("[evaluation]", "[adapter]\ntargets = []\n[evaluation]", "`adapter.targets`: must name at least one", ""),
        (
            "[evaluation]",
            "[secure_aggregation]\nbundle_threshold = 2\n[evaluation]",
            "`secure_aggregation.bundle_threshold` should be greater than or equal to 3, but is 2",
            "",
        ),
        (
            "[evaluation]",
            "[secure_aggregation]\nring_bits = 20\n[evaluation]",
            "`secure_aggregation.ring_bits` should be 16, 24 or 32, but is 20",
            "",
        ),
        ("[evaluation]", "[allocation]\nshare = 0.0\n[evaluation]", "`allocation.share` should be greater than 0", ""),
        (
            "[evaluation]",
            '[allocation]\npolicy = "best"\n[evaluation]',
            "'coverage', 'random', 'weight' or 'gradient'",
            "",
        ),
        ("[evaluation]", "[round]\nminimum_sites = 5\n[evaluation]", "minimum_sites = 5 starts rounds in which", ""),
    ],
)
def test_wrong_keys_are_refused_with_key_and_remedy(old: str, new: str, sentence: str, next_step: str) -> None:
    error = refusal(MINIMAL.replace(old, new, 1))
    assert sentence in str(error)
    assert next_step in error.next_step
    assert str(error).startswith("job.toml")


@pytest.mark.parametrize("task", ["sequence_classification", "image_classification", "series_classification"])
def test_a_job_that_tells_labels_needs_them_and_nothing_more(task: str) -> None:
    text = MINIMAL.replace("[evaluation]", f'task = "{task}"\n[evaluation]')
    assert read_job_file(text, source="job.toml").training.task == task
    assert "labels is missing" in str(refusal(text.replace('labels = ["engine", "pump"]', "")))


@pytest.mark.parametrize("labels", ['labels = ["engine", "pump"]', ""])
def test_a_job_for_answers_needs_a_prompt_and_may_list_them(labels: str) -> None:
    prompt = 'task = "causal_lm"\nprompt = "Order: {text}\\nSubsystem:"'
    job = read_job_file(MINIMAL.replace('labels = ["engine", "pump"]', f"{labels}\n{prompt}"), source="job.toml")
    assert job.training.prompt == "Order: {text}\nSubsystem:"
    assert job.training.labels == (("engine", "pump") if labels else ())


@pytest.mark.parametrize(
    ("table", "share"),
    [
        ("", 1.0),
        ('policy = "coverage"', 1.0),
        ('policy = "random"', 0.5),
        ('policy = "weight"', 0.5),
        ('policy = "gradient"', 0.5),
        ('policy = "weight"\nshare = 1', 1.0),
        ("share = 0.25", 0.25),
    ],
)
def test_a_ranking_has_something_to_choose_unless_the_job_says_otherwise(table: str, share: float) -> None:
    job = read_job_file(f"{MINIMAL}\n[allocation]\n{table}", source="job.toml")
    assert job.allocation.share_trained() == share


@given(st.text(max_size=200))
def test_any_text_is_refused_with_a_sentence(text: str) -> None:
    assert refusal(text).next_step
