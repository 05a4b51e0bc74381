"""Methods by the names that plans use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lab.methods.alternating.method import Alternating
from lab.methods.fed_sb.method import FedSb
from lab.methods.fed_svd.method import FedSvd
from lab.methods.fedex_lora.method import FedExLora
from lab.methods.fedit.method import FedIt
from lab.methods.ffa_lora.method import FfaLora
from lab.methods.flex_lora.method import FlexLora
from lab.methods.flora.method import FLora
from lab.methods.full.method import FullFineTuning
from lab.methods.head_only.method import HeadOnly
from lab.methods.headquarters.method import Headquarters
from lab.methods.het_lora.method import HetLora
from lab.methods.method import Method
from lab.methods.moving_ravan.method import MovingRavan
from lab.methods.ravan.method import Ravan
from lab.methods.single_site.method import SingleSite

METHODS: Final[Mapping[str, type[Method]]] = {
    "ravan": Ravan,
    "moving_ravan": MovingRavan,
    "alternating": Alternating,
    "fedit": FedIt,
    "ffa_lora": FfaLora,
    "fedex_lora": FedExLora,
    "flora": FLora,
    "fed_sb": FedSb,
    "het_lora": HetLora,
    "flex_lora": FlexLora,
    "fed_svd": FedSvd,
    "full": FullFineTuning,
    "head_only": HeadOnly,
    "single_site": SingleSite,
    "headquarters": Headquarters,
}
