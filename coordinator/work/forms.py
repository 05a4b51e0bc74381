"""Arguments and results of tasks as JSON values: digests and a few numbers, everything large is a blob. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.rounds.results import Evaluation, SummedRound
from coordinator.work.tasks import Values
from ravan.ids import BlockId, Digest


def digest_in(values: Values, name: str) -> Digest:
    """Return the digest of this name."""
    return Digest(bytes.fromhex(values[name]))


def state_argument(state_digest: Digest) -> Values:
    """Name the version that a task is about."""
    return {"state": state_digest.hex()}


def combine_arguments(state_digest: Digest, sums_digest: Digest) -> Values:
    """Name the version and the sums that make the next one."""
    return {"state": state_digest.hex(), "sums": sums_digest.hex()}


def write_summed(summed: SummedRound) -> Values:
    """Tell where the sums are; what they mean follows from them."""
    return {"sums": summed.sums_digest.hex(), "seconds": summed.seconds}


def write_state(state_digest: Digest) -> Values:
    """Tell which version was made."""
    return {"state": state_digest.hex()}


def read_state(result: Values) -> Digest:
    """Return which version was made."""
    return digest_in(result, "state")


def write_norms(norms: Mapping[BlockId, float]) -> Values:
    """Tell the norms of heads."""
    return {"norms": [[head.pack(), norm] for head, norm in norms.items()]}


def read_norms(result: Values) -> Mapping[BlockId, float]:
    """Return the norms of heads."""
    return {BlockId.unpack(head): norm for head, norm in result["norms"]}


def write_evaluation(evaluation: Evaluation) -> Values:
    """Tell how good a version is; a loss may be infinite, which JSON cannot say as a number."""
    return {"accuracy": evaluation.accuracy, "loss": repr(evaluation.loss)}


def read_evaluation(result: Values) -> Evaluation:
    """Return how good a version is."""
    return Evaluation(accuracy=result["accuracy"], loss=float(result["loss"]))
