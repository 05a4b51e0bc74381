"""The Windows service under stand-ins for pywin32: in which order it talks to the service manager, and how it ends.

This proves nothing about Windows; `docs/windows.md` says what remains.
"""

from __future__ import annotations

import importlib
import json
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from log_settings import logging_as_before
from scripted_headquarters import enrol_by_hand

from coordinator.enrolment.pki import create_pki
from edge_agent.service.switch import StopSwitch
from ravan.errors import ConfigError, ErrorReason, IdentityError, ResourceError

OURS = ("edge_agent.service.windows", "edge_agent.service.windows_host")
THEIRS = ("pywintypes", "servicemanager", "win32service", "win32serviceutil")


class WindowsError(Exception):
    """As pywin32 has it."""

    def __init__(self, winerror: int, strerror: str) -> None:
        super().__init__(winerror, strerror)
        self.winerror, self.strerror = winerror, strerror


class Calls(list[tuple[Any, ...]]):
    """What the service manager was asked for, and how it answers."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {"GetServiceCustomOption": "agent.toml"}

    def taking(self, name: str) -> Any:
        def take(*arguments: Any, **named: Any) -> Any:
            self.append((name, *arguments, *named.values()))
            answer = self.answers.get(name)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return take

    def module(self, name: str, functions: tuple[str, ...], **constants: Any) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update({each: self.taking(each) for each in functions}, **constants)
        return made

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self]


def framework(calls: Calls) -> type:
    class ServiceFramework:
        def __init__(self, arguments: list[str]) -> None:
            calls.append(("__init__", *arguments))

        def ReportServiceStatus(self, state: int, waitHint: int) -> None:  # noqa: N802, N803
            calls.append(("ReportServiceStatus", state, waitHint))

    return ServiceFramework


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    calls = Calls()
    services = ("OpenSCManager", "OpenService", "ChangeServiceConfig2", "CloseServiceHandle")
    constants = {
        **{"SERVICE_STOP_PENDING": 3, "SERVICE_RUNNING": 4, "SERVICE_AUTO_START": 2, "SC_ACTION_RESTART": 1},
        **{"SERVICE_CONFIG_FAILURE_ACTIONS": 2, "SC_MANAGER_ALL_ACCESS": 0xF003F, "SERVICE_ALL_ACCESS": 0xF01FF},
    }
    utilities = ("InstallService", "RemoveService", "StartService", "StopService", "QueryServiceStatus")
    options = ("GetServiceCustomOption", "SetServiceCustomOption")
    made = {
        "pywintypes": calls.module("pywintypes", (), error=WindowsError),
        "servicemanager": calls.module("servicemanager", ("LogInfoMsg", "LogErrorMsg")),
        "win32service": calls.module("win32service", services, **constants),
        "win32serviceutil": calls.module("win32serviceutil", (*utilities, *options), ServiceFramework=framework(calls)),
    }
    for name in OURS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield calls
    for name in OURS:
        sys.modules.pop(name, None)


def service(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> tuple[Any, Any]:
    """Return the service, and its module, in which the end of the process is only noted."""
    module = importlib.import_module(OURS[0])
    monkeypatch.setattr(module.os, "_exit", calls.taking("exit"))
    return module.RavanAgentService(["RavanAgent"]), module


def test_without_pywin32_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in THEIRS:
        monkeypatch.setitem(sys.modules, name, None)
    for name in OURS:
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ResourceError, match="pywin32"):
        importlib.import_module(OURS[0])


def test_it_runs_until_the_manager_stops_it(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    started = threading.Event()
    made, module = service(monkeypatch, calls)

    def agent(path: Path, switch: StopSwitch) -> None:
        ended = threading.Event()
        switch.connect(ended.set)
        calls.append(("runs", path))
        started.set()
        assert ended.wait(20)

    monkeypatch.setattr(module, "serve", agent)
    running = threading.Thread(target=made.SvcDoRun)
    running.start()
    assert started.wait(20)
    made.SvcStop()
    running.join(20)
    assert not running.is_alive()
    assert calls == [
        ("__init__", "RavanAgent"),
        ("LogInfoMsg", "Ravan agent starts."),
        ("GetServiceCustomOption", "RavanAgent", "ConfigPath"),
        ("runs", Path("agent.toml")),
        ("ReportServiceStatus", 3, 20_000),
        ("LogInfoMsg", "Ravan agent has ended."),
    ]


@pytest.mark.parametrize(
    ("error", "said", "dies"),
    [
        (ConfigError("No such file.", reason=ErrorReason.CONFIG_INVALID, next_step="Make it."), "No such file.", False),
        (IdentityError("Revoked.", reason=ErrorReason.IDENTITY_REVOKED, next_step="Enrol."), "Revoked. Enrol.", True),
        (ValueError("cell 'secret'"), "ValueError", True),
    ],
)
def test_a_failure_is_in_the_event_log_and_restarts_unless_it_would_not_help(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, error: Exception, said: str, dies: bool
) -> None:
    made, module = service(monkeypatch, calls)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "serve", fail)
    made.SvcDoRun()
    (logged,) = (call[1] for call in calls if call[0] == "LogErrorMsg")
    assert said in logged
    assert "secret" not in logged
    assert (("exit", 1) in calls) is dies
    assert "Ravan agent has ended." not in [call[-1] for call in calls]


def test_the_real_agent_says_what_keeps_it_from_running(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, tmp_path: Path
) -> None:
    calls.answers["GetServiceCustomOption"] = str(tmp_path / "agent.toml")
    made, _ = service(monkeypatch, calls)
    made.SvcDoRun()
    assert "There is no configuration file" in next(call[1] for call in calls if call[0] == "LogErrorMsg")
    assert "exit" not in calls.names


def test_the_switch_ends_the_real_agent_and_the_log_is_in_a_file(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, tmp_path: Path
) -> None:
    config = enrol_by_hand(create_pki(tmp_path / "pki", ["127.0.0.1"], now=time.time()), 1, tmp_path / "site")
    calls.answers["GetServiceCustomOption"] = str(config)
    made, _ = service(monkeypatch, calls)
    with logging_as_before():
        made.SvcStop()
        made.SvcDoRun()
    assert calls[-1] == ("LogInfoMsg", "Ravan agent has ended.")
    lines = (config.parent / "state" / "agent.log").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines][-1] == "ravan-agent ended"


def test_installing_names_the_class_the_configuration_and_what_follows_a_failure(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, tmp_path: Path
) -> None:
    host = importlib.import_module(OURS[1]).WindowsHost()
    host.install(tmp_path / "agent.toml")
    assert calls.names == [
        *("InstallService", "SetServiceCustomOption", "OpenSCManager", "OpenService", "ChangeServiceConfig2"),
        *("CloseServiceHandle", "CloseServiceHandle", "StartService"),
    ]
    assert calls[0][1:3] == ("edge_agent.service.windows.RavanAgentService", "RavanAgent")
    assert r"NT AUTHORITY\LocalService" in calls[0]
    assert calls[1][1:] == ("RavanAgent", "ConfigPath", str(tmp_path / "agent.toml"))
    assert calls[4][3]["Actions"] == [(1, 30_000), (1, 60_000), (1, 300_000)]


def test_what_windows_refuses_is_said(calls: Calls, tmp_path: Path) -> None:
    host = importlib.import_module(OURS[1]).WindowsHost()
    calls.answers["InstallService"] = WindowsError(5, "Access is denied.")
    with pytest.raises(ResourceError, match="Access is denied") as refused:
        host.install(tmp_path / "agent.toml")
    assert "administrator" in refused.value.next_step
    assert calls.names == ["InstallService"]


@pytest.mark.parametrize(
    ("answer", "installed", "active"),
    [((16, 4, 5), True, True), ((16, 1, 5), True, False), (WindowsError(1060, "No such service."), False, False)],
)
def test_status(calls: Calls, answer: object, installed: bool, active: bool) -> None:
    calls.answers["QueryServiceStatus"] = answer
    found = importlib.import_module(OURS[1]).WindowsHost().status()
    assert (found.installed, found.active) == (installed, active)


def test_a_service_that_does_not_run_is_removed_all_the_same(calls: Calls) -> None:
    calls.answers["StopService"] = WindowsError(1062, "The service has not been started.")
    importlib.import_module(OURS[1]).WindowsHost().uninstall()
    assert calls.names == ["StopService", "RemoveService"]


def test_a_switch_that_was_pressed_too_early_counts() -> None:
    switch, rung = StopSwitch(), threading.Event()
    switch.press()
    switch.connect(rung.set)
    assert rung.is_set()
    rung.clear()
    switch.disconnect()
    switch.press()
    assert not rung.is_set()
