"""What both command lines share: how an error ends a command, and how JSON is printed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from ravan.errors import ConfigError, ErrorReason, RavanError, ResourceError

EXIT_FAILURE: Final = 1
EXIT_WRONG_USE: Final = 2
EXIT_INTERRUPTED: Final = 130
"""What shells expect of a program that Ctrl-C ended."""


def exit_code(error: RavanError) -> int:
    """Return 2 for wrong use or bad configuration, 1 for any other failure."""
    return EXIT_WRONG_USE if isinstance(error, ConfigError) else EXIT_FAILURE


def fail(error: RavanError, *, as_json: bool = False) -> NoReturn:
    """End the process: the sentence and what to do next on standard error, and the exit code of the contract.

    As JSON it is one object with the keys `error`, `reason` and `next_step`.
    """
    if as_json:
        text = json.dumps({"error": str(error), "reason": error.reason.value, "next_step": error.next_step})
    else:
        text = "\n".join(part for part in (f"Error: {error}", error.next_step) if part)
    print(text, file=sys.stderr)
    sys.exit(exit_code(error))


def run_command(command: Callable[[], Any], *, as_json: bool = False) -> None:
    """Run a whole command line program; turn errors into sentences and Ctrl-C into its exit code."""
    # Each handshake that fails would print a line of gRPC's own beside our sentence; read as gRPC loads.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        command()
    except RavanError as error:
        fail(error, as_json=as_json)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # whoever read our output (`| head`) has seen enough; Python must not complain at exit
        sys.stderr.close()
        sys.exit(EXIT_FAILURE)
    except OSError as error:
        if error.filename is None:
            raise
        fail(_unusable(error), as_json=as_json)


def _unusable(error: OSError) -> RavanError:
    """Say which file or folder the system refused, where no module has said it better."""
    return ResourceError(
        f"{error.filename} cannot be used: {(error.strerror or str(error)).lower()}.",
        reason=ErrorReason.NOT_FOUND,
        next_step="Check the path, its permissions and the room on its disk.",
    )


def print_json(value: Any) -> None:
    """Print one JSON document with sorted keys."""
    print(json.dumps(value, indent=2, sort_keys=True))
