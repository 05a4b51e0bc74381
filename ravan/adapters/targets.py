"""Which linear layers a job adapts: those that it names by the last parts of their names, or by their role.

A role resolves to layers here, once, when a job is submitted; its plan lists them one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final

from ravan.errors import ConfigError, ErrorReason


class Role(StrEnum):
    """What a linear layer does in a transformer block; as a target, all layers that do it."""

    ATTENTION = "attention"
    """Projections of queries, keys, values and of attention's output."""
    MLP = "mlp"
    """The feed-forward part."""
    ALL = "all"
    """Both."""


def match_targets(names: Collection[str], model_type: str, targets: Collection[str]) -> frozenset[str]:
    """Return those of the linear layers' `names` that some target means.

    A target is a role, or the whole last components of a name: `value` does not match `xvalue`. Raise ConfigError
    when a target matches nothing, or when a role is asked of a `model_type` whose layers have none here.
    """
    if model_type not in _LAYOUTS and any(target in _ROLES for target in targets):
        raise _no_roles(model_type, names)
    matched = {target: frozenset(name for name in names if _means(target, name, model_type)) for target in targets}
    unmatched = [target for target, found in matched.items() if not found]
    if unmatched or not matched:
        raise _no_match(unmatched, names)
    return frozenset().union(*matched.values())


def _means(target: str, name: str, model_type: str) -> bool:
    if target not in _ROLES:
        return _ends_with(name, target)
    role = _role_of(name, _LAYOUTS[model_type])
    return role is not None and target in (role, Role.ALL)


def _role_of(name: str, layout: Mapping[str, Role]) -> Role | None:
    """Return the role by the longest suffix: BERT's `output.dense` is feed-forward, `attention.output.dense` not."""
    suffixes = [suffix for suffix in layout if _ends_with(name, suffix)]
    return layout[max(suffixes, key=len)] if suffixes else None


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith("." + suffix)


def _layout(attention: str, mlp: str) -> dict[str, Role]:
    return dict.fromkeys(attention.split(), Role.ATTENTION) | dict.fromkeys(mlp.split(), Role.MLP)


_ROLES: Final = frozenset(Role)

_BERT: Final = _layout("self.query self.key self.value attention.output.dense", "intermediate.dense output.dense")
_DEBERTA: Final = _layout(
    "self.query_proj self.key_proj self.value_proj attention.output.dense", "intermediate.dense output.dense"
)
_LLAMA: Final = _layout(
    "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj", "mlp.gate_proj mlp.up_proj mlp.down_proj"
)
_VIT: Final = _layout(
    "attention.q_proj attention.k_proj attention.v_proj attention.o_proj",
    "mlp.fc1 mlp.fc2 mlp.gate_proj mlp.up_proj mlp.down_proj",
)

_LAYOUTS: Final[Mapping[str, Mapping[str, Role]]] = {
    "bert": _BERT,
    "camembert": _BERT,
    "deberta-v2": _DEBERTA,
    "dinov2": _VIT,
    "dinov3_vit": _VIT,
    "distilbert": _layout("attention.q_lin attention.k_lin attention.v_lin attention.out_lin", "ffn.lin1 ffn.lin2"),
    "electra": _BERT,
    "gemma": _LLAMA,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mpnet": _layout("attn.q attn.k attn.v attn.o", "intermediate.dense output.dense"),
    "patchtst": _layout("self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.out_proj", "ff.0 ff.3"),
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _BERT,
    "vit": _VIT,
    "xlm-roberta": _BERT,
}
"""By `model_type` of the configuration: the suffixes of a block's linear layers."""

FAMILIES_WITH_ROLES: Final = frozenset(_LAYOUTS)
"""Model types whose layers can be named by role."""


def _suffix(name: str) -> str:
    """Return what a target would be: the last component, with the one before it where that is a mere number."""
    parts = name.split(".")
    return ".".join(parts[-2:]) if parts[-1].isdigit() else parts[-1]


def _available(names: Collection[str]) -> str:
    return f"its linear layers are called {', '.join(sorted({_suffix(name) for name in names})) or '(none)'}"


def _no_match(unmatched: list[str], names: Collection[str]) -> ConfigError:
    subject = "No adapter target is given" if not unmatched else f"The model has no linear layer {', '.join(unmatched)}"
    return ConfigError(
        f"{subject}; {_available(names)}.",
        reason=ErrorReason.CONFIG_INVALID,
        next_step=f"Set [adapter] targets to some of these names, or to a role: {', '.join(Role)}.",
    )


def _no_roles(model_type: str, names: Collection[str]) -> ConfigError:
    return ConfigError(
        f"Which layers of a '{model_type}' model are attention and which are mlp is not known; {_available(names)}.",
        reason=ErrorReason.CONFIG_INVALID,
        next_step="Set [adapter] targets to some of these names instead of a role.",
    )
