"""Passwords that a configuration names the place of: a file of their own, or an environment variable."""

from __future__ import annotations

import os
from pathlib import Path

from ravan.errors import ConfigError, ErrorReason


def read_password(key: str, file: Path | None, variable: str) -> str:
    """Return the password, empty where no place is named; raise ConfigError with the key that names it.

    `key` is what the two keys have in common, such as `[agent] proxy_password`.
    """
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise _missing(
                f"{key}_file {file} cannot be read: {said}.", "Check the path and that the agent's user may read it."
            ) from None
    if variable and variable not in os.environ:
        raise _missing(
            f"{key}_variable: there is no environment variable {variable}.",
            f"Set it for the agent's process, or name a {key.rpartition(' ')[2]}_file.",
        )
    return os.environ.get(variable, "") if variable else ""


def _missing(sentence: str, next_step: str) -> ConfigError:
    return ConfigError(sentence, reason=ErrorReason.CONFIG_INVALID, next_step=next_step)
