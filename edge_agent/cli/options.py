"""What many commands share: options, and the configuration that one of them names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from edge_agent.config import AgentFile

CONFIG_NAME: Final = "agent.toml"

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(CONFIG_NAME),
    show_default=True,
    help="The agent's configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def read_config(path: Path) -> AgentFile:
    """Read the configuration that `--config` names; raise ConfigError."""
    from edge_agent.config import load_config  # noqa: PLC0415 - `--help` does without pydantic

    return load_config(path)
