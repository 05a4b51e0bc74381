"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

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
