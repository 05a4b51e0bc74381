"""From job file to plan, on a tiny real model: what is drawn up, and every refusal before anything runs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from drafting_desk import Desk, FixedInspector, job_text
from image_files import plain_image, write_zip
from safetensors.torch import load_file, save_file
from tiny_task_models import DINOV2_SIDE, WINDOW, write_tiny_dinov2, write_tiny_llama, write_tiny_patchtst

from coordinator.jobs.jobfile import read_job_file
from coordinator.jobs.submission import basis_blob, choose_model
from coordinator.store.records import ModelRecord
from ravan.adapters.basis import decode_basis
from ravan.adapters.state import block_shapes, decode_state
from ravan.codec.plans import decode_plan, encode_plan
from ravan.errors import ConfigError, DataError, ErrorReason, ModelError
from ravan.ids import BlockKind, Digest
from ravan.manifest.plan import NO_DIGEST, BasisKind, Denominator, Task

NO_HASH = Digest(bytes(32))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_the_plan_of_a_small_job(desk: Desk) -> None:
    plan = desk.draft(round={"denominator": "cohort"}, training={"steps": 7}).plan
    assert [(m.ordinal, m.name, m.out_features, m.in_features) for m in plan.matrices] == [
        (i, f"bert.encoder.layer.{i // 2}.attention.self.{('query', 'value')[i % 2]}", 16, 16) for i in range(4)
    ]
    assert [(p.name, p.shape) for p in plan.dense] == [("classifier.weight", (3, 16)), ("classifier.bias", (3,))]
    assert (plan.adapter.heads, plan.adapter.rank, plan.adapter.basis) == (2, 3, BasisKind.ALIGNED)
    assert (plan.training.steps, plan.training.max_length, plan.denominator) == (7, 16, Denominator.COHORT)
    assert (plan.job_name, plan.model_name, plan.model_files) == ("orders", "minilm", desk.model.files)
    assert plan.job_id.startswith("orders-")
    assert decode_plan(encode_plan(plan)) == plan


def test_ids_and_seed_are_drawn_and_differ(desk: Desk) -> None:
    plan = desk.draft().plan
    assert len(plan.run_id) == 16
    assert len(plan.adapter.seed) == 32
    assert len({plan.run_id[:4], plan.adapter.seed[:4], bytes.fromhex(plan.job_id.removeprefix("orders-"))}) == 3


def test_a_given_seed_decides_the_bases(desk: Desk) -> None:
    digests = {
        seed: [m.basis_digest for m in desk.draft(adapter={"seed": seed * 32}).plan.matrices] for seed in ("ab", "cd")
    }
    assert desk.draft(adapter={"seed": "ab" * 32}).plan.adapter.seed == b"\xab" * 32
    assert digests["ab"] == [m.basis_digest for m in desk.draft(adapter={"seed": "ab" * 32}).plan.matrices]
    assert not set(digests["ab"]) & set(digests["cd"])
    assert len(set(digests["ab"])) == 4


def test_the_first_version_has_silent_heads_and_a_drawn_classifier(desk: Desk) -> None:
    draft = desk.draft()
    state = decode_state(draft.plan, draft.initial_state)
    assert not any(array.any() for block, array in state.items() if block.kind is BlockKind.HEAD)
    weight = state[draft.plan.dense_ids()[0]]
    assert 0.005 < weight.std() < 0.04


def test_every_drawn_basis_can_be_had_by_its_digest_and_nothing_else(desk: Desk) -> None:
    plan = desk.draft(adapter={"basis": "gram_schmidt"}).plan
    for matrix in plan.matrices:
        blob = basis_blob(plan, matrix.basis_digest, desk.blobs)
        assert blob is not None
        assert decode_basis(blob, plan.adapter, 16, 16).b.shape == (2, 16, 3)
    assert basis_blob(plan, NO_HASH, desk.blobs) is None


def test_notes_tell_what_is_trained_and_what_is_odd_about_the_data(desk: Desk) -> None:
    notes = desk.draft().notes
    assert notes[0] == (
        "Trains 2 heads of rank 3 in each of 4 matrices (72 numbers) "
        "and classifier.weight, classifier.bias whole (51 numbers)."
    )
    assert "Suggested for a fleet of 5" in notes[1]
    assert notes[2:] == (
        "files/held-out.csv: 1 rows without text are left out.",
        "files/held-out.csv has no example of: cab.",
    )


@pytest.mark.parametrize(
    ("expected", "frequencies"), [(None, [4 / 8, 3 / 8, 1 / 8]), ("equal", [1 / 3] * 3), ("local", [])]
)
def test_the_plan_says_how_frequent_the_model_is_to_expect_each_label(
    desk: Desk, expected: str | None, frequencies: list[float]
) -> None:
    """The held-out file has three engines, two pumps and no cab; each counts one more."""
    desk.write_held_out("text,label\na,engine\nb,pump\nc,engine\nd,engine\ne,pump\n")
    plan = desk.draft(training={} if expected is None else {"expected_labels": expected}).plan
    assert plan.training.label_frequencies == pytest.approx(frequencies)
    assert decode_plan(encode_plan(plan)) == plan


def test_bases_follow_the_held_out_examples_and_can_be_had_anew_from_what_is_stored(desk: Desk) -> None:
    aligned = desk.draft().plan
    assert desk.blobs.exists(aligned.directions)
    for matrix in aligned.matrices:
        blob = basis_blob(aligned, matrix.basis_digest, desk.blobs)
        assert hashlib.sha256(blob or b"").digest() == matrix.basis_digest
    desk.write_held_out("text,label\nthe cab,pump\nengine,cab\n")
    others = desk.draft().plan
    assert aligned.adapter.seed == others.adapter.seed
    assert aligned.directions != others.directions
    assert not {m.basis_digest for m in aligned.matrices} & {m.basis_digest for m in others.matrices}
    drawn = desk.draft(adapter={"basis": "gram_schmidt"}).plan
    assert drawn.directions == NO_DIGEST
    assert desk.draft(adapter={"heads": 0}).plan.directions == NO_DIGEST


def test_no_heads_trains_the_classifier_alone(desk: Desk) -> None:
    draft = desk.draft(adapter={"heads": 0, "rank": "auto"})
    assert (draft.plan.matrices, draft.plan.adapter.heads, draft.plan.adapter.rank) == ((), 0, 0)
    assert draft.notes[0].endswith("and no heads.")
    assert decode_plan(encode_plan(draft.plan)) == draft.plan


@pytest.mark.parametrize(
    ("sizes", "heads", "lora_rank", "basis", "ranks"),
    [
        # floor(sqrt(768 * 8 / 4)) = 39 for MiniLM's square matrices
        ([(384, 384)], 4, 8, "gram_schmidt", [39]),
        # each matrix has its own: floor(sqrt(512 * 8 / 4)) = 32, floor(sqrt(1920 * 8 / 4)) = 61
        ([(384, 384), (128, 384), (1536, 384)], 4, 8, "gram_schmidt", [39, 32, 61]),
        # the budget would allow 78, orthogonal bases in 384 dimensions end at 384 / 8 = 48
        ([(384, 384)], 8, 64, "gram_schmidt", [48]),
        ([(384, 384)], 8, 64, "normal", [78]),
    ],
)
def test_automatic_ranks(
    desk: Desk, sizes: list[tuple[int, int]], heads: int, lora_rank: int, basis: str, ranks: list[int]
) -> None:
    linears = tuple((f"l{i}.query", out, inputs) for i, (out, inputs) in enumerate(sizes))
    adapter: dict[str, object] = {"heads": heads, "rank": "auto", "lora_rank": lora_rank, "basis": basis}
    plan = desk.draft(inspector=FixedInspector(linears), adapter=adapter).plan
    heads_of = {block: shape for block, shape in block_shapes(plan).items() if block.index == 0}
    assert list(heads_of.values()) == [(rank, rank) for rank in ranks]
    assert decode_plan(encode_plan(plan)) == plan
    blobs = [basis_blob(plan, matrix.basis_digest, desk.blobs) for matrix in plan.matrices]
    assert [len(blob or b"") for blob in blobs] == [
        # header, then all B and all A in float32
        24 + 4 * heads * rank * (out + inputs)
        for rank, (out, inputs) in zip(ranks, sizes, strict=True)
    ]


def test_notes_show_what_automatic_ranks_cost_against_lora(desk: Desk) -> None:
    linears = (("l0.query", 384, 384), ("l0.up", 1536, 384), ("l1.key", 384, 384), ("l1.query", 384, 384))
    adapter: dict[str, object] = {"heads": 4, "rank": "auto", "lora_rank": 8}
    notes = desk.draft(inspector=FixedInspector(linears), adapter=adapter).notes
    assert notes[:3] == (
        "Trains 4 heads of ranks 39 to 61 in each of 4 matrices (33,136 numbers) and nothing whole (0 numbers).",
        "1536 x 384 (up; 1): rank 61, so 14,884 numbers each; LoRA of rank 8 has 15,360.",
        "384 x 384 (key, query; 3): rank 39, so 6,084 numbers each; LoRA of rank 8 has 6,144.",
    )


def test_refusal_names_the_matrix_that_is_too_small(desk: Desk) -> None:
    linears = (("l0.query", 16, 16), ("l0.key", 3, 16))
    adapter = {"heads": 4, "rank": "auto", "lora_rank": 8}
    error = desk.refusal(ConfigError, ErrorReason.ADAPTER_TOO_LARGE, inspector=FixedInspector(linears), adapter=adapter)
    assert "l0.key is 3 x 16" in str(error)
    assert "heads to at most 3" in error.next_step


def test_heads_that_do_not_fit_are_refused_with_a_value_that_would(desk: Desk) -> None:
    error = desk.refusal(ConfigError, ErrorReason.ADAPTER_TOO_LARGE, adapter={"heads": 4, "rank": 5})
    assert "4" in error.next_step
    assert desk.draft(adapter={"heads": 4, "rank": 4}).plan.adapter.rank == 4
    desk.refusal(ConfigError, ErrorReason.ADAPTER_TOO_LARGE, adapter={"heads": 17, "rank": "auto"})


def test_targets_that_match_nothing_are_refused_with_the_names_that_exist(desk: Desk) -> None:
    error = desk.refusal(ConfigError, ErrorReason.CONFIG_INVALID, adapter={"targets": ["q_proj"]})
    assert "query" in str(error)


def test_texts_longer_than_the_model_reads_are_refused(desk: Desk) -> None:
    error = desk.refusal(ConfigError, ErrorReason.CONFIG_INVALID, training={"max_length": 33})
    assert "32 or less" in error.next_step
    assert desk.draft(training={"max_length": 32}).plan.training.max_length == 32


def test_a_job_with_nothing_to_train_is_refused(desk: Desk) -> None:
    error = desk.refusal(
        ConfigError, ErrorReason.CONFIG_INVALID, inspector=FixedInspector((("l0.query", 16, 16),)), adapter={"heads": 0}
    )
    assert "heads = 0 leaves nothing to train" in str(error)
    assert error.next_step == "Set it to 1 or more."


def test_a_job_for_images_takes_their_size_from_the_model(desk: Desk) -> None:
    desk.take_model(write_tiny_dinov2(desk.folder / "dinov2"))
    write_zip(
        desk.folder / "f00d",
        {"engine/a.png": plain_image((255, 0, 0)), "pump/b.png": plain_image((0, 0, 255)), "cab/c.png": b"broken"},
    )
    task: dict[str, object] = {"task": "image_classification"}
    adapter: dict[str, object] = {"targets": ["q_proj"]}
    draft = desk.draft(training=task, adapter=adapter)
    assert draft.plan.training.image_side == DINOV2_SIDE
    assert [(p.name, p.shape) for p in draft.plan.dense] == [("classifier.weight", (3, 32)), ("classifier.bias", (3,))]
    assert draft.notes[-2:] == (
        "files/held-out.csv: 1 files that cannot be read as images are left out.",
        "files/held-out.csv has no example of: cab.",
    )
    assert decode_plan(encode_plan(draft.plan)) == draft.plan
    assert desk.draft(training=task | {"image_side": 28}, adapter=adapter).plan.training.image_side == 28
    error = desk.refusal(ConfigError, ErrorReason.CONFIG_INVALID, training=task | {"image_side": 30})
    assert "patches of 14 pixels" in str(error)
    assert error.next_step == "Set it to 28."


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_a_precision_that_the_model_cannot_be_held_in_is_refused_before_anybody_trains(
    desk: Desk, precision: str
) -> None:
    folder = write_tiny_dinov2(desk.folder / "dinov2")
    weights = load_file(folder / "model.safetensors")
    # A parameter of a module with parts, so the job would train it; modules train in float32 or not at all.
    del weights["embeddings.cls_token"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    desk.take_model(folder)
    write_zip(desk.folder / "f00d", {"pump/b.png": plain_image((0, 0, 255))})
    task: dict[str, object] = {"task": "image_classification"}
    adapter: dict[str, object] = {"targets": ["q_proj"]}
    trained = [p.name for p in desk.draft(training=task, adapter=adapter).plan.dense]
    assert any(name.endswith("cls_token") for name in trained)
    model: dict[str, object] = {"precision": precision}
    error = desk.refusal(ModelError, ErrorReason.MODEL_INVALID, training=task, adapter=adapter, model=model)
    assert error.next_step == 'Set [model] precision = "float32".'


def test_a_job_for_series_takes_channels_and_window_from_the_model(desk: Desk) -> None:
    desk.take_model(write_tiny_patchtst(desk.folder / "patchtst"))
    rows = "".join(f"{machine},{i},{i * 10},engine\n" for machine, count in (("a", 9), ("b", 3)) for i in range(count))
    desk.write_held_out("machine,Oil,rpm,label\n" + rows)
    draft = desk.draft(
        training={"task": "series_classification", "max_length": 5, "window_step": 2},
        adapter={"targets": ["q_proj"]},
        evaluation={"group": "machine", "columns": {"oil": "Oil"}},
    )
    training = draft.plan.training
    assert (training.channels, training.max_length, training.window_step) == (("oil", "rpm"), WINDOW, 2)
    assert draft.notes[-2:] == (
        "files/held-out.csv: 1 series shorter than a window are left out.",
        "files/held-out.csv has no example of: pump, cab.",
    )
    assert decode_plan(encode_plan(draft.plan)) == draft.plan


def test_a_job_for_answers_trains_heads_alone(desk: Desk) -> None:
    desk.take_model(write_tiny_llama(desk.folder / "llama"))
    desk.write_held_out("text,label\nthe hose,pump\n")
    task: dict[str, object] = {"task": "causal_lm", "prompt": "{text}\n:", "labels": ["pump", "cab"]}
    draft = desk.draft(training=task, adapter={"targets": ["q_proj"]}, evaluation={})
    assert (draft.plan.dense, len(draft.plan.matrices)) == ((), 2)
    assert draft.plan.training.task is Task.CAUSAL_LM
    assert draft.notes[-1] == "files/held-out.csv has no example of: cab."
    assert decode_plan(encode_plan(draft.plan)) == draft.plan
    error = desk.refusal(ConfigError, ErrorReason.CONFIG_INVALID, training=task, adapter={"heads": 0})
    assert "for causal_lm the model needs no new parameters" in str(error)


def test_a_cohort_beyond_the_fleet_is_refused_first(desk: Desk) -> None:
    (desk.folder / "f00d").unlink()
    desk.refusal(ConfigError, ErrorReason.COHORT_UNREACHABLE, fleet_size=2)


def test_held_out_data_is_checked(desk: Desk) -> None:
    error = desk.refusal(DataError, ErrorReason.DATA_UNREADABLE, evaluation={"label": "class"})
    assert str(error).startswith("held-out.csv has no column 'class'")
    desk.write_held_out("text,label\nhose,pumps\n")
    error = desk.refusal(DataError, ErrorReason.DATA_UNKNOWN_LABEL)
    assert "Did you mean 'pump'?" in error.next_step


def test_a_model_that_is_not_there_is_refused_with_those_that_are(desk: Desk) -> None:
    job = read_job_file(job_text(model={"name": "bert-base"}), source="job.toml")
    with pytest.raises(ModelError, match="no base model 'bert-base'") as caught:
        choose_model(job, [desk.model])
    assert caught.value.reason is ErrorReason.MODEL_MISSING
    assert caught.value.next_step.startswith("There are: minilm. Add one with")
    with pytest.raises(ModelError) as caught:
        choose_model(job, [])
    assert "none yet" in caught.value.next_step


def test_a_model_that_is_there_is_chosen(desk: Desk) -> None:
    other = ModelRecord(name="other", files=(), digest=NO_HASH, model_type="bert", parameters=1, added_at=0.0)
    assert choose_model(read_job_file(job_text(), source="job.toml"), [other, desk.model]) is desk.model
