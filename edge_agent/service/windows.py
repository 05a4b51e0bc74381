"""The agent as a Windows service: what the service manager loads, starts and stops.

Not proven: it has run under stand-ins for pywin32's modules alone. `docs/windows.md` has the steps that remain.

The service manager starts pywin32's host program, which loads `RavanAgentService` from this module by its name. Which
configuration it serves stands among the service's options.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from edge_agent.app import run_agent
from edge_agent.config import load_config
from edge_agent.service.switch import StopSwitch
from ravan.errors import ConfigError, ErrorReason, RavanError, ResourceError
from ravan.logs import set_up_logs

try:
    import servicemanager
    import win32service
    import win32serviceutil
except ImportError as missing:
    raise ResourceError(
        "Windows services need pywin32, which is not installed.",
        reason=ErrorReason.NOT_FOUND,
        next_step="Install `ravan[edge]` on Windows; elsewhere the agent is a service of systemd.",
    ) from missing

NAME: Final = "RavanAgent"
DISPLAY_NAME: Final = "Ravan agent"
CONFIG_OPTION: Final = "ConfigPath"
STOP_PATIENCE_MS: Final = 20_000
LOG_FILE: Final = "agent.log"
"""In the state folder, where [log] names none: a service has no standard error."""

_Framework: Any = win32serviceutil.ServiceFramework


class RavanAgentService(_Framework):  # type: ignore[misc]
    """One agent; the names of its methods and fields are pywin32's."""

    _svc_name_ = NAME
    _svc_display_name_ = DISPLAY_NAME
    _svc_description_ = "Federated fine-tuning on this PC; its data never leave it."

    def __init__(self, arguments: list[str]) -> None:
        """Register with the service manager."""
        super().__init__(arguments)
        self._switch = StopSwitch()

    def SvcStop(self) -> None:  # noqa: N802
        """Have the agent leave its round and end; another thread than the agent's calls this."""
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=STOP_PATIENCE_MS)
        self._switch.press()

    SvcShutdown = SvcStop

    def SvcDoRun(self) -> None:  # noqa: N802
        """Run the agent until it is told to end; the event log says how it went."""
        servicemanager.LogInfoMsg(f"{DISPLAY_NAME} starts.")
        try:
            serve(Path(win32serviceutil.GetServiceCustomOption(NAME, CONFIG_OPTION)), self._switch)
        except ConfigError as error:
            # It does not heal by itself, so that this counts as an orderly end and nothing is restarted.
            servicemanager.LogErrorMsg(f"{error} {error.next_step}")
        except RavanError as error:
            _fail(f"{error} {error.next_step}")
        except Exception as error:  # whatever it is, the recovery actions follow
            # No more than its kind: what it says may be a cell of a table.
            _fail(f"An unexpected error: {type(error).__name__}. The agent's log has the details.")
        else:
            servicemanager.LogInfoMsg(f"{DISPLAY_NAME} has ended.")


def serve(config_path: Path, switch: StopSwitch) -> None:
    """Run the agent of this configuration until the switch is pressed; raise RavanError when it cannot."""
    config = load_config(config_path)
    file = config.log.file or str(config.agent.state_dir / LOG_FILE)
    set_up_logs(config.log.model_copy(update={"file": file}))
    run_agent(config, None, switch)


def _fail(sentence: str) -> None:
    """Go without a word to the service manager: recovery actions follow a process that does."""
    servicemanager.LogErrorMsg(sentence)
    os._exit(1)
