"""HeadSum v1 as its machines do it: a diagram of one round and tables of their states, recorded while they run.

Rounds are led in memory by the driver of the protocol's own tests. Every call of a state is noted with what it gave
and where it led; a state's inputs are the methods of the default that it overrides.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, get_args
from unittest.mock import patch

from secagg_driver import Federation, make_assignment

from ravan.manifest.assignment import Assignment
from ravan.manifest.roster import Roster
from ravan.secagg import effects, messages
from ravan.secagg.agent import AgentRound
from ravan.secagg.agent_reveal import Confirmed, Revealed, Uploading
from ravan.secagg.agent_sharing import Advertised, Masking, Sharing, Training
from ravan.secagg.agent_states import AgentState, Closed
from ravan.secagg.coordinator import CoordinatorRound
from ravan.secagg.coordinator_states import Abort, Collecting, CoordinatorState, Phase
from ravan.secagg.unmask import UnmaskJob

AGENT_STATES = (Training, Advertised, Sharing, Masking, Uploading, Confirmed, Revealed, Closed)
"""In the order of a round; `subclasses_of(AgentState)` says which there are."""

_NAMES = {value: name for name, value in vars(messages).items() if isinstance(value, type)}
"""Message class to its name; the last one counts, since the protocol calls a roster's entry a KeyAdvertisement."""

_GIVEN = (*_NAMES, Roster, Abort, UnmaskJob, *get_args(effects.Effect))
_MEMBERS, _TOO_FEW = 4, 2
_PHASES = 5
"""In which sites answer."""


@dataclass(frozen=True)
class Step:
    """One input that a state took."""

    state: str
    takes: str
    gives: tuple[str, ...]
    following: str


def subclasses_of(base: type) -> set[type]:
    """Return all classes that derive from `base`, without those that a decorator has replaced by another."""
    direct: list[type] = base.__subclasses__()
    found = {each for sub in direct for each in (sub, *subclasses_of(sub))}
    return {each for each in found if getattr(sys.modules[each.__module__], each.__name__, None) is each}


def inputs_of(state: type, base: type) -> list[str]:
    """Return what a state takes: the methods that refuse in `base` and that it, or a class between, overrides."""
    methods = [name for name, value in vars(base).items() if callable(value) and not name.startswith("_")]
    return [name for name in methods if name != "lost" and getattr(state, name) is not getattr(base, name)]


def coordinator_states() -> list[type[CoordinatorState]]:
    """Return the states in the order of the phases; what they have in common is none."""
    states = subclasses_of(CoordinatorState) - {Collecting}
    return sorted(states, key=lambda state: list(Phase).index(state.phase))


def record_steps() -> set[Step]:
    """Lead rounds that end well, and one for each phase that too few answer in."""
    steps: set[Step] = set()
    with ExitStack() as stack:
        for base, states in ((AgentState, AGENT_STATES), (CoordinatorState, coordinator_states())):
            for state in states:
                for name in inputs_of(state, base):
                    stack.enter_context(patch.object(state, name, _noting(steps, state, name)))
        _lead_well()
        for phase in range(_PHASES):
            _lead_short(phase)
    return steps


def _noting(steps: set[Step], state: type, name: str) -> Callable[..., Any]:
    method = getattr(state, name)

    @wraps(method)
    def noted(self: Any, *arguments: Any) -> Any:
        result = method(self, *arguments)
        parts = list(_parts(result))
        following = [_name_of(part) for part in parts if isinstance(part, AgentState | CoordinatorState)]
        gives = [_NAMES.get(type(part), type(part).__name__) for part in parts if isinstance(part, _GIVEN)]
        ended = [str(Phase.ABORTED)] if "Abort" in gives else []
        after = (ended or following or [_name_of(self)])[0]
        steps.add(Step(_name_of(self), name, tuple(dict.fromkeys(gives)), after))
        return result

    return noted


def _parts(value: object) -> Iterator[object]:
    """Return a result and what it is made of, down to messages and states."""
    if isinstance(value, tuple):
        for each in value:
            yield from _parts(each)
    elif isinstance(value, dict):
        yield from _parts(tuple(value.values()))
    elif value is not None:
        yield value


def _name_of(state: Any) -> str:
    return str(state.name if isinstance(state, AgentState) else state.phase)


def _lead_well() -> None:
    """One honest round, in which receipts are late and the coordinator asks for signatures and shares twice."""
    federation, everyone = Federation(make_assignment([(0,)] * _MEMBERS)), range(_MEMBERS)
    federation.advertise(everyone)
    request = federation.run_to_request(everyone, everyone)
    for agent in federation.agents.values():
        agent.uploaded()
        agent.survivors(request.survivor_set)
    federation.reveal(request, everyone)
    for agent in federation.agents.values():
        agent.survivors(request.survivor_set)
        agent.reveal(request)
        agent.close()


def _lead_short(phase: int) -> None:
    """Let too few answer in one phase: advertising, sharing, upload, confirmation or reveal."""
    answering = [range(_TOO_FEW if at == phase else _MEMBERS) for at in range(_PHASES)]
    federation = Federation(make_assignment([(0,)] * _MEMBERS))
    if isinstance(federation.advertise(answering[0]), Abort):
        return
    deliveries = federation.share(answering[1])
    if isinstance(deliveries, Abort) or isinstance(federation.upload(deliveries, answering[2]), Abort):
        return
    request = federation.confirm(answering[3])
    if not isinstance(request, Abort):
        federation.reveal(request, answering[4])


@contextmanager
def _watching(arrows: list[tuple[str, str, str]]) -> Iterator[None]:
    """Note (phase, arrow, message) of everything that the two machines are handed."""
    rounds: list[CoordinatorRound] = []

    def watched(machine: type, name: str, arrow: str) -> AbstractContextManager[Any]:
        method = getattr(machine, name)

        @wraps(method)
        def note(self: Any, *arguments: Any, **named: Any) -> Any:
            if machine is CoordinatorRound and name == "__init__":
                rounds.append(self)
                return method(self, *arguments, **named)
            for value in (*arguments, *named.values()):
                if isinstance(value, (Assignment, Roster, *_NAMES)):
                    message = _NAMES.get(type(value), type(value).__name__)
                    arrows.append((str(rounds[-1].phase), arrow, message))
            return method(self, *arguments, **named)

        return patch.object(machine, name, note)

    with ExitStack() as stack:
        for machine, arrow in ((CoordinatorRound, "A->>C"), (AgentRound, "C->>A")):
            for name in ("__init__", *(n for n, v in vars(machine).items() if callable(v) and not n.startswith("_"))):
                stack.enter_context(watched(machine, name, arrow))
        yield


def draw_round() -> str:
    """Return a Mermaid diagram of the messages of an honest round, each kind once."""
    arrows: list[tuple[str, str, str]] = []
    with _watching(arrows):
        federation, everyone = Federation(make_assignment([(0,)] * _MEMBERS)), range(_MEMBERS)
        federation.run(finishers=everyone, sharers=everyone, uploaders=everyone, revealers=everyone)
    lines = ["sequenceDiagram", "    participant C as coordinator", "    participant A as each agent"]
    drawn = ""
    for phase, arrow, message in dict.fromkeys(arrows):
        if phase != drawn:
            lines.append(f"    Note over C,A: {phase}")
            drawn = phase
        lines.append(f"    {arrow}: {message}")
    return "\n".join([*lines, f"    Note over C: {federation.coordinator.phase}"]) + "\n"


def list_agent_steps() -> str:
    """Return the agent's table of states."""
    return _table([(state.name, inputs_of(state, AgentState)) for state in AGENT_STATES])


def list_coordinator_steps() -> str:
    """Return the coordinator's table of states, one group's."""
    return _table([(str(state.phase), inputs_of(state, CoordinatorState)) for state in coordinator_states()])


def _table(states: list[tuple[str, list[str]]]) -> str:
    steps = record_steps()
    lines = ["| state | takes | gives | next |", "|---|---|---|---|"]
    for state, inputs in states:
        if not inputs:
            lines.append(f"| `{state}` | nothing | | |")
        for name in inputs:
            found = sorted((s for s in steps if (s.state, s.takes) == (state, name)), key=lambda s: "Abort" in s.gives)
            if not found:
                raise LookupError(f"no recorded round shows what {state} does on {name}")
            gives = " or ".join(dict.fromkeys(", ".join(f"`{g}`" for g in step.gives) for step in found))
            following = " or ".join(dict.fromkeys(f"`{step.following}`" for step in found))
            lines.append(f"| `{state}` | `{name}` | {gives or 'nothing'} | {following} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(draw_round(), list_agent_steps(), list_coordinator_steps(), sep="\n", end="")
