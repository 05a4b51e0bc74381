"""FFA-LoRA: with A the same everywhere, the mean of B gives the mean of the products; twice the rank costs the same."""

from __future__ import annotations

from typing import ClassVar

from lab.methods.fedit.method import FedIt
from lab.methods.low_rank.factors import Adapter
from lab.methods.method import Client


class FfaLora(FedIt):
    """FedAvg over B; the mean of equal A is that A."""

    trains_a: ClassVar[bool] = False

    def download_numbers(self, adapter: Adapter, client: Client) -> int:  # noqa: ARG002 - all alike
        """Leave out A, which follows from a seed."""
        return sum(factors.b.numel() for factors in adapter.values())
