"""Errors on their way between processes."""

from __future__ import annotations

import pickle

from ravan.errors import ConfigError, ErrorReason


def test_an_error_keeps_kind_sentence_reason_and_next_step_through_a_process_boundary() -> None:
    error = ConfigError("The job has no labels.", reason=ErrorReason.CONFIG_INVALID, next_step="Add `labels`.")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(copy) is ConfigError
    assert (str(copy), copy.reason, copy.next_step) == (
        "The job has no labels.",
        ErrorReason.CONFIG_INVALID,
        "Add `labels`.",
    )
