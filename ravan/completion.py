"""The command that prints what a shell needs to complete a program's commands and options."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")

_FIRST_LINE: Final = {
    "bash": 'Put into ~/.bashrc: eval "$({program} completion bash)"',
    "zsh": 'Put into ~/.zshrc: eval "$({program} completion zsh)"',
    "fish": "Write to ~/.config/fish/completions/{program}.fish",
}


def completion_of(program: str) -> click.Command:
    """Return the command `completion` of a program."""

    @click.command("completion")
    @click.argument("shell", type=click.Choice(SHELLS))
    @click.pass_context
    def completion(context: click.Context, shell: str) -> None:
        """Print the completion of commands and options for a shell; its first line says where to put it."""
        found = get_completion_class(shell)
        if found is None:
            raise click.UsageError(f"{shell} cannot be served here.")
        variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
        script = found(context.find_root().command, {}, program, variable).source()
        click.echo(f"# {_FIRST_LINE[shell].format(program=program)}\n{script}")

    return completion
