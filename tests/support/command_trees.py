"""The commands of both programs as click has them: whether a command line could be carried out."""

from __future__ import annotations

from collections.abc import Sequence

import click

from coordinator.cli import cli as coordinator_cli
from edge_agent.cli import cli as agent_cli

PROGRAMS = {"ravan-coordinator": coordinator_cli, "ravan-agent": agent_cli}


def find_fault(program: str, words: Sequence[str]) -> str:
    """Return why click would refuse this line; empty where it would not. Nothing is carried out."""
    command: click.Command = PROGRAMS[program]
    context, left = click.Context(command, info_name=program), list(words)
    while isinstance(command, click.Group):
        following = command.commands.get(left[0]) if left else None
        if following is None:
            return f"{command.name} has no command {left[:1]}"
        command, left = following, left[1:]
    try:
        command.make_context(command.name, left, parent=context)
    except click.BadParameter as error:
        # Whether a file is there is another question.
        about_files = error.param is not None and isinstance(error.param.type, click.Path | click.File)
        return "" if about_files and not isinstance(error, click.MissingParameter) else error.format_message()
    except click.UsageError as error:
        return error.format_message()
    return ""
