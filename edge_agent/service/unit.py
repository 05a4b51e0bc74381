"""The text of a systemd unit for the agent: as little of the PC as it needs, and restarted whenever it fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ravan.errors import ErrorReason, StateError

WATCHDOG_S: Final = 180
"""Longest that the event loop may stand still: a PC that swaps, or wakes from sleep, is slow and not broken."""
STOP_PATIENCE_S: Final = 20
_HOMES: Final = (Path("/home"), Path("/root"), Path("/run/user"))
_LEAST_ROOM_MB: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSettings:
    """What differs from PC to PC; all paths are absolute."""

    command: tuple[str, ...]
    """Program and arguments."""
    user: str
    config_path: Path
    read: tuple[Path, ...]
    """Where program and data lie."""
    written: tuple[Path, ...]
    """Folders of keys, cache, state and logs: nothing else may be changed."""
    ram_limit_mb: int = 0
    """As in the configuration; 0 for none."""


def render_unit(settings: UnitSettings) -> str:
    """Return the unit file; raise StateError MALFORMED for a path that no unit can name."""
    command = " ".join(_argument(part) for part in settings.command)
    written = "\n".join(f"ReadWritePaths={_word(path)}" for path in settings.written)
    return _UNIT.format(
        command=command,
        user=_bare(settings.user),
        folder=_bare(settings.config_path.parent),
        watchdog_s=WATCHDOG_S,
        stop_s=STOP_PATIENCE_S,
        memory=_memory(settings.ram_limit_mb),
        home=_home(settings),
        written=written,
    )


def _memory(limit_mb: int) -> str:
    """Stop growth at the limit and end the worker above it: the agent gives up a round that would not fit."""
    if not limit_mb:
        return "# No ram_limit_mb in the configuration: under pressure the worker goes before other programs."
    return f"MemoryHigh={limit_mb}M\nMemoryMax={limit_mb + max(_LEAST_ROOM_MB, limit_mb // 8)}M"


def _home(settings: UnitSettings) -> str:
    """Hide people's folders, unless program, configuration or data lie there."""
    used = (*settings.read, *settings.written, settings.config_path)
    return "read-only" if any(path.is_relative_to(home) for path in used for home in _HOMES) else "yes"


def _argument(part: str) -> str:
    return _word(part).replace("$", "$$")


def _word(text: str | Path) -> str:
    """Quote one word of a line that systemd splits at blanks."""
    escaped = _bare(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _bare(text: str | Path) -> str:
    plain = str(text)
    if not plain.isprintable():
        raise StateError(
            f"The path {plain!r} has a character that no service file can hold.",
            reason=ErrorReason.MALFORMED,
            next_step="Move the folder to a path of letters, digits and blanks.",
        )
    return plain.replace("%", "%%")


MARK: Final = "# Made by `ravan-agent service install`"
"""How a unit of ours begins; any other is not touched."""

_UNIT: Final = (
    MARK
    + """, which makes it anew; keep changes of your own in a drop-in (systemctl edit).
[Unit]
Description=Ravan agent: federated fine-tuning on this PC
Wants=network-online.target
After=network-online.target
# Nobody administers this PC daily: never stop trying.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory={folder}
User={user}
UMask=0077
Restart=on-failure
RestartSec=30
# A wrong configuration does not heal by itself.
RestartPreventExitStatus=2
WatchdogSec={watchdog_s}
TimeoutStopSec={stop_s}
KillMode=mixed

# The PC has another job.
Nice=10
IOSchedulingClass=idle
CPUWeight=20
IOWeight=20
OOMScoreAdjust=500
# Where memory runs out the worker process goes, and the agent starts another one.
OOMPolicy=continue
TasksMax=256
{memory}

# Nothing is written but these, and nothing is seen that is not needed.
ProtectSystem=strict
ProtectHome={home}
{written}
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
KeyringMode=private
RemoveIPC=yes

# It dials out and listens on nothing.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX

# It needs no privilege. Memory that is written and then executed is allowed: torch compiles its inner loops.
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
)
