"""A language model's answers: what is learnt of a sequence, what is right, and which models will not do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from task_settings import settings_of
from tiny_task_models import write_tiny_llama
from transformers import AutoConfig, AutoModelForCausalLM

from ravan.data.texts import AnswerExamples
from ravan.errors import ConfigError, DataError, ErrorReason, ModelError
from ravan.manifest.plan import Task
from ravan.tasks.answers import AnswerModel, PromptedAnswers, load_answer_model
from ravan.tasks.batch import NOT_LEARNT
from simulation.tiny_text_model import SPECIAL, WORDS

VOCABULARY = (*SPECIAL, *WORDS)
END = VOCABULARY.index("[SEP]")


def examples(*rows: tuple[str, str]) -> AnswerExamples:
    return AnswerExamples(texts=tuple(t for t, _ in rows), answers=tuple(a for _, a in rows), left_out=0)


def answer_model(root: Path, **changes: Any) -> AnswerModel:
    return load_answer_model(write_tiny_llama(root / "llama"), settings_of(Task.CAUSAL_LM, **changes))


def words(ids: list[int]) -> list[str]:
    return [VOCABULARY[index] for index in ids]


def sequence(data: PromptedAnswers, row: int) -> list[str]:
    return words(data.sequences.row(row).tolist())


def test_an_answer_follows_its_prompt_and_ends(tmp_path: Path) -> None:
    model = answer_model(tmp_path)
    data = model.encode(examples(("hose burst", "pump"), ("door", "cab door")))
    # This tokenizer ends a text by itself, as BERT's do; a language model's own does not.
    assert sequence(data, 0) == ["[CLS]", "hose", "burst", "[SEP]", "the", "pump", "[SEP]"]
    assert sequence(data, 1) == ["[CLS]", "door", "[SEP]", "the", "cab", "door", "[SEP]"]
    assert data.answer_lengths.tolist() == [2, 3]


def test_labels_are_the_answers_next_tokens_and_nothing_else(tmp_path: Path) -> None:
    data = answer_model(tmp_path).encode(examples(("hose burst", "pump"), ("door", "cab door door")))
    batch = data.gather([0, 1])
    ids = batch.inputs["input_ids"]
    assert batch.is_padded
    for row, length in ((0, 2), (1, 4)):
        end = int(batch.inputs["attention_mask"][row].sum())
        learnt = [place for place in range(ids.shape[1]) if batch.labels[row, place] != NOT_LEARNT]
        assert learnt == list(range(end - length - 1, end - 1))
        assert [int(batch.labels[row, place]) for place in learnt] == ids[row, end - length : end].tolist()


def test_a_long_text_is_cut_and_prompt_and_answer_are_not(tmp_path: Path) -> None:
    model = answer_model(tmp_path, max_length=7, prompt="pump {text} the door")
    data = model.encode(
        examples(
            ("hose " * 20, "cab"),
        )
    )
    assert sequence(data, 0) == ["[CLS]", "pump", "hose", "the", "door", "cab", "[SEP]"]


def test_an_answer_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        answer_model(tmp_path, max_length=5).encode(examples(("hose", "cab door cab")))
    assert caught.value.reason is ErrorReason.DATA_UNREADABLE
    assert "has 4 tokens" in str(caught.value)


def test_losses_are_the_mean_over_each_answer_s_tokens(tmp_path: Path) -> None:
    model = answer_model(tmp_path)
    data = model.encode(examples(("hose burst", "pump"), ("door", "cab door door"), ("leak", "engine not")))
    batch = data.gather([2, 0, 1])
    with torch.no_grad():
        found = model.losses(model.logits(batch), batch)
        for position, row in enumerate([2, 0, 1]):
            ids = data.sequences.row(row).tolist()
            by_itself: Any = model.model(input_ids=torch.tensor([ids]))
            told = torch.log_softmax(by_itself.logits[0].double(), 1)
            length = int(data.answer_lengths[row])
            places = range(len(ids) - length, len(ids))
            expected = -sum(float(told[place - 1, ids[place]]) for place in places) / length
            assert float(found[position]) == pytest.approx(expected, rel=1e-4)


def test_right_is_what_greedy_decoding_gives(tmp_path: Path) -> None:
    """Some answers are learnt by heart, so that both kinds are there."""
    model = answer_model(tmp_path)
    rows = (("hose burst", "pump"), ("door", "cab door"), ("engine not start", "engine"), ("leak", "the hose"))
    data = model.encode(examples(*rows))
    learnt = data.gather([0, 1])
    optimiser = torch.optim.Adam(model.model.parameters(), lr=0.02)
    for _ in range(60):
        loss = model.losses(model.logits(learnt), learnt).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    generated = []
    generator: Any = model.model
    for row in range(len(rows)):
        ids = data.sequences.row(row).tolist()
        length = int(data.answer_lengths[row])
        prompt = torch.tensor([ids[:-length]])
        found = generator.generate(prompt, max_new_tokens=length, do_sample=False, pad_token_id=0, eos_token_id=END)
        generated.append(found[0, prompt.shape[1] :].tolist() == ids[-length:])
    with torch.no_grad():
        right = [model.count_correct(model.logits(one), one) == 1 for one in (data.gather([r]) for r in range(4))]
        everything = data.gather(range(4))
        assert model.count_correct(model.logits(everything), everything) == sum(generated)
    assert right == generated
    assert generated[:2] == [True, True]
    assert not all(generated)


def test_the_worst_case_is_full_and_has_the_longest_answer(tmp_path: Path) -> None:
    model = answer_model(tmp_path)
    batch = model.worst_case(3, model.encode(examples(("hose", "pump"), ("hose", "cab door door"))))
    assert batch.shape == (16,)
    assert not batch.is_padded
    assert (batch.labels != NOT_LEARNT).sum(1).tolist() == [4, 4, 4]


def test_nothing_is_new_in_a_language_model(tmp_path: Path) -> None:
    assert answer_model(tmp_path).new_parameters == ()


def test_a_model_that_sees_what_comes_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "bert")
    config = AutoConfig.for_model(
        "bert", vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, initializer_range=0.5, is_decoder=False,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match="sees what comes after"):
        load_answer_model(folder, settings_of(Task.CAUSAL_LM))


def test_longer_sequences_than_the_model_reads_are_refused_with_its_length(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        answer_model(tmp_path, max_length=33)
    assert "32" in caught.value.next_step


def test_a_prompt_without_one_token_still_has_something_before_the_answer(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "llama")
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    model = load_answer_model(folder, settings_of(Task.CAUSAL_LM, prompt="{text}"))
    assert settings["tokenizer_class"] == "BertTokenizer"
    model._tokenizer = lambda texts, **_: {"input_ids": [[] if not text.strip() else [5] for text in texts]}
    model._end = lambda: END  # type: ignore[method-assign]
    model._tokenizer.pad_token_id = 0
    data = model.encode(examples(("", "pump")))
    assert data.sequences.row(0).tolist() == [END, 5, END]
