"""The round's diagram and its table of states, written from the transition table."""

from __future__ import annotations

from collections import defaultdict

from coordinator.rounds.states import COLLECTING, PHASE_OF, RoundState
from coordinator.rounds.transitions import TRANSITIONS, Action

_COLLECTING_ACTIONS = [Action.TAKE_MESSAGE, Action.TAKE_UPLOAD, Action.DROP_SITE, Action.CLOSE_LATE]
"""What may close a phase in which sites answer; drawn as one, or the picture could not be read."""


def draw_states() -> str:
    """Return a Mermaid diagram: every move of the table from one state to another, with the actions that make it."""
    moves: defaultdict[tuple[RoundState, RoundState], list[Action]] = defaultdict(list)
    for (state, _), transition in TRANSITIONS.items():
        for target in transition.targets - {state}:
            if transition.action not in moves[state, target]:
                moves[state, target].append(transition.action)
    order = list(RoundState)
    lines = ["stateDiagram-v2", f"    [*] --> {RoundState.PLANNED}"]
    for state, target in sorted(moves, key=lambda move: (order.index(move[0]), order.index(move[1]))):
        lines.append(f"    {state} --> {target}: {_name_actions(moves[state, target])}")
    return "\n".join([*lines, f"    {RoundState.ENDED} --> [*]"]) + "\n"


def _name_actions(actions: list[Action]) -> str:
    if set(_COLLECTING_ACTIONS) <= set(actions):
        others = [action for action in actions if action not in _COLLECTING_ACTIONS]
        return ", ".join(["answers, drops or deadline", *others])
    return ", ".join(actions)


def list_states() -> list[tuple[str, str, str]]:
    """Return (state, phase, whether it has a deadline) of every state."""
    return [(state, PHASE_OF[state], "yes" if state in COLLECTING else "no") for state in RoundState]


if __name__ == "__main__":
    print(draw_states(), end="")
