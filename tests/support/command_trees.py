"""The commands of both programs as click has them: whether a command line could be carried out."""

from __future__ import annotations

from collections.abc import Sequence

import click

from coordinator.cli import cli as coordinator_cli
from edge_agent.cli import cli as agent_cli

PROGRAMS = {"ravan-coordinator": coordinator_cli, "ravan-agent": agent_cli}


def find_command(program: str, words: Sequence[str]) -> tuple[click.Command, list[str]] | None:
    """Return the command, or group, that a line names as far as it goes, and what follows; None for an unknown name."""
    command: click.Command = PROGRAMS[program]
    left = list(words)
    while isinstance(command, click.Group) and left:
        following = command.commands.get(left.pop(0))
        if following is None:
            return None
        command = following
    return command, left


def find_fault(program: str, words: Sequence[str]) -> str:
    """Return why click would refuse this line; empty where it would not. Nothing is carried out."""
    found = find_command(program, words)
    if found is None:
        return f"{program} has no command {' '.join(words)}"
    command, left = found
    try:
        command.make_context(command.name, left)
    except click.BadParameter as error:
        # Whether a file is there is another question.
        about_files = error.param is not None and isinstance(error.param.type, click.Path | click.File)
        return "" if about_files and not isinstance(error, click.MissingParameter) else error.format_message()
    except click.UsageError as error:
        return error.format_message()
    return ""
