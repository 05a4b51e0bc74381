"""Install the agent as a Windows service, take it away again, say how it is. Not proven, as `docs/windows.md` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pywintypes
import win32service
import win32serviceutil

from edge_agent.service.systemd import ServiceStatus
from edge_agent.service.windows import CONFIG_OPTION, DISPLAY_NAME, NAME, RavanAgentService
from ravan.errors import ErrorReason, ResourceError

ACCOUNT: Final = r"NT AUTHORITY\LocalService"
"""Has few rights; keys and data have to be open to it."""
RESTARTS_AFTER_MS: Final = (30_000, 60_000, 300_000)
"""After the first, the second and every later failure."""
FORGET_FAILURES_AFTER_S: Final = 86_400
_NOT_INSTALLED: Final = 1060
_NOT_ACTIVE: Final = 1062
_ACCESS_DENIED: Final = 5


class WindowsHost:
    """The service of this PC; needs an administrator to change it."""

    def install(self, config_path: Path) -> None:
        """Register the service, say what follows a failure, and start it; raise ResourceError."""
        with _explained("installed"):
            win32serviceutil.InstallService(
                f"{RavanAgentService.__module__}.{RavanAgentService.__name__}",
                NAME,
                DISPLAY_NAME,
                startType=win32service.SERVICE_AUTO_START,
                userName=ACCOUNT,
                password="",
                description=RavanAgentService._svc_description_,
                delayedstart=True,
            )
            win32serviceutil.SetServiceCustomOption(NAME, CONFIG_OPTION, str(config_path.absolute()))
            _set_recovery()
            win32serviceutil.StartService(NAME)

    def uninstall(self) -> None:
        """Stop the service and remove it; raise ResourceError."""
        with _explained("removed"):
            try:
                win32serviceutil.StopService(NAME)
            except pywintypes.error as error:
                if error.winerror != _NOT_ACTIVE:
                    raise
            win32serviceutil.RemoveService(NAME)

    def status(self) -> ServiceStatus:
        """Ask the service manager; raise ResourceError."""
        state, installed = 0, True
        with _explained("looked at"):
            try:
                state = win32serviceutil.QueryServiceStatus(NAME)[1]
            except pywintypes.error as error:
                if error.winerror != _NOT_INSTALLED:
                    raise
                installed = False
        active = state == win32service.SERVICE_RUNNING
        words = "running" if active else "not running" if installed else "not installed"
        return ServiceStatus(installed=installed, active=active, state=words, doing="", restarts=0, since="")


def _set_recovery() -> None:
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_ALL_ACCESS)
    try:
        service = win32service.OpenService(manager, NAME, win32service.SERVICE_ALL_ACCESS)
        try:
            actions = {
                "ResetPeriod": FORGET_FAILURES_AFTER_S,
                "RebootMsg": "",
                "Command": "",
                "Actions": [(win32service.SC_ACTION_RESTART, pause) for pause in RESTARTS_AFTER_MS],
            }
            win32service.ChangeServiceConfig2(service, win32service.SERVICE_CONFIG_FAILURE_ACTIONS, actions)
        finally:
            win32service.CloseServiceHandle(service)
    finally:
        win32service.CloseServiceHandle(manager)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except pywintypes.error as error:
        denied = error.winerror == _ACCESS_DENIED
        raise ResourceError(
            f"The service {NAME} cannot be {what}: {error.strerror}",
            reason=ErrorReason.PERMISSION_DENIED if denied else ErrorReason.WRONG_STATE,
            next_step="Run the command as an administrator." if denied else "See the event log, under Application.",
        ) from error
