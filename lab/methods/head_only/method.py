"""The floor: the product's job with no heads of Ravan's, `[adapter] heads = 0`."""

from __future__ import annotations

from typing import ClassVar

from lab.methods.drafting import draft_plan
from lab.methods.ravan.method import Ravan
from ravan.manifest.plan import JobPlan


class HeadOnly(Ravan):
    """Ravan without heads: the classifier's learning rate is the one that counts."""

    options: ClassVar[frozenset[str]] = Ravan.options - {
        "heads",
        "share",
        "basis",
        "train_scales",
        "denominator",
        "allotment",
    }

    def draft(self) -> JobPlan:
        """Return a plan without heads."""
        return draft_plan(self.bench, heads=0)
