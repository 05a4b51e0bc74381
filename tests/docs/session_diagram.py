"""The agent's session as its machine does it: every event tried in every state that can be reached."""

from __future__ import annotations

import re
from collections import defaultdict
from copy import deepcopy

from session_steps import (
    ENDED,
    PREPARE,
    TERMS,
    delivery,
    digest_of,
    prepared_now,
    result,
    reveal,
    roster,
    survivors,
    train,
)
from tiny_jobs import PLAN_DIGEST

from edge_agent.session.events import (
    Event,
    InstructionRefused,
    PreparationFailed,
    RoundFailed,
    StopRequested,
    TimelineChanged,
)
from edge_agent.session.machine import SessionMachine, Stage
from ravan.manifest.phases import DropReason

EVENTS: tuple[Event, ...] = (
    PREPARE,
    prepared_now(PLAN_DIGEST),
    PreparationFailed(digest=PLAN_DIGEST, reason=DropReason.DATA),
    train(1),
    train(2),
    roster(),
    delivery(),
    survivors(),
    reveal(),
    result(),
    RoundFailed(assignment_digest=digest_of(1), reason=DropReason.MEMORY),
    InstructionRefused(),
    ENDED,
    TimelineChanged(),
    StopRequested(),
)
"""One of each kind and the assignment of the round after; a test sees to it that none is missing."""

_STAGES = [stage.name.lower() for stage in Stage]
_IDLE, _PREPARING, _PREPARED, _STOPPED, _ROUND = "idle", "preparing", "prepared", "stopped", "in_round"
Moves = dict[tuple[str, str], list[str]]


def record_moves() -> Moves:
    """Return the events of every move from one state to another, in the order in which they are found."""
    moves: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    machines = {_IDLE: SessionMachine(TERMS, {})}
    waiting = [_IDLE]
    while waiting:
        state = waiting.pop(0)
        for event in EVENTS:
            machine = deepcopy(machines[state])
            machine.handle(event)
            target = name_state(machine)
            if target != state and _words(event) not in moves[state, target]:
                moves[state, target].append(_words(event))
            if target not in machines:
                machines[target] = machine
                waiting.append(target)
    return {move: events for move, events in moves.items() if events}


def name_state(machine: SessionMachine) -> str:
    """Return where a machine is; of a round, the latest instruction that was taken."""
    if machine._stopping:
        return _STOPPED
    if machine._round is not None:
        return _STAGES[machine._round.stage]
    if machine._preparing is not None:
        return _PREPARING
    return _PREPARED if machine._prepared else _IDLE


def draw_session() -> str:
    """Return a Mermaid diagram; what happens alike at every stage of a round leads out of the round as a whole."""
    moves = record_moves()
    shared = [target for target in (_PREPARED, _IDLE, _STOPPED) if len({_key(moves, s, target) for s in _STAGES}) == 1]
    inner = [(move, events) for move, events in moves.items() if move[0] in _STAGES and move[1] not in shared]
    outer = [(move, events) for move, events in moves.items() if move[0] not in _STAGES]
    outer += [((_ROUND, target), moves[_STAGES[0], target]) for target in shared]
    return "\n".join(
        [
            "stateDiagram-v2",
            f"    [*] --> {_IDLE}",
            *(f"    {_line(move, events)}" for move, events in outer),
            f"    state {_ROUND} {{",
            *(f"        {_line(move, events)}" for move, events in inner),
            "    }",
            f"    {_STOPPED} --> [*]\n",
        ]
    )


def _key(moves: Moves, state: str, target: str) -> tuple[str, ...]:
    return tuple(moves.get((state, target), ()))


def _line(move: tuple[str, str], events: list[str]) -> str:
    return f"{move[0]} --> {move[1]}: {', '.join(events)}"


def _words(event: Event) -> str:
    return re.sub(r"(?<=.)([A-Z])", r" \1", type(event).__name__).lower()


if __name__ == "__main__":
    print(draw_session(), end="")
