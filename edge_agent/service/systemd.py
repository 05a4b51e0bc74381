"""Install the agent as a systemd service, take it away again, and say how it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_agent.config import AgentFile
from edge_agent.identity.keystore import load_identity
from edge_agent.service.unit import MARK, UnitSettings, render_unit
from ravan.errors import ConfigError, ErrorReason, ResourceError, StateError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
UNIT_FOLDER: Final = Path("/etc/systemd/system")
_UNIT_MODE: Final = 0o644
_PATIENCE_S: Final = 60
_PROPERTIES: Final = ("LoadState", "ActiveState", "SubState", "StatusText", "NRestarts", "StateChangeTimestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatus:
    """What the service manager knows of the service."""

    installed: bool
    active: bool
    state: str
    """In the manager's own words."""
    doing: str
    """What the agent said last of itself; empty when it has not said anything."""
    restarts: int
    """By the manager, after failures."""
    since: str


class SystemdHost:
    """One service of this name; needs root to change it."""

    def __init__(self, name: str, units: Path = UNIT_FOLDER) -> None:
        """Name the unit, and the folder in which units lie; raise ConfigError for what is no name."""
        if not _NAME.fullmatch(name):
            raise ConfigError(
                f"'{name[:80]}' is no name for a service.",
                reason=ErrorReason.CONFIG_INVALID,
                next_step="Use letters, digits, hyphens and underscores.",
            )
        self._unit = f"{name}.service"
        self.path = units / self._unit

    def install(self, settings: UnitSettings) -> None:
        """Write the unit and start it, now and whenever the PC starts; repeating it brings the unit up to date.

        Raises StateError, and ResourceError when systemd refuses.
        """
        self._require_ours()
        _require_owner(settings)
        text = render_unit(settings)
        self._write(text)
        _systemctl("daemon-reload")
        _systemctl("enable", self._unit)
        _systemctl("restart", self._unit)

    def uninstall(self) -> None:
        """Stop the service and remove its unit; keys, data and configuration stay. Raises StateError, ResourceError."""
        if not self.path.exists():
            raise StateError(
                f"There is no service {self._unit} on this PC.",
                reason=ErrorReason.NOT_FOUND,
                next_step="`ravan-agent service status --name NAME` shows another one.",
            )
        self._require_ours()
        _systemctl("disable", "--now", self._unit)
        self.path.unlink()
        _systemctl("daemon-reload")

    def status(self) -> ServiceStatus:
        """Ask systemd; raise ResourceError when there is none."""
        answer = _systemctl("show", self._unit, f"--property={','.join(_PROPERTIES)}")
        said = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
        restarts = said.get("NRestarts", "")
        return ServiceStatus(
            installed=said.get("LoadState") == "loaded",
            active=said.get("ActiveState") == "active",
            state=f"{said.get('ActiveState', 'unknown')} ({said.get('SubState', 'unknown')})",
            doing=said.get("StatusText", ""),
            restarts=int(restarts) if restarts.isdecimal() else 0,
            since=said.get("StateChangeTimestamp", ""),
        )

    def _write(self, text: str) -> None:
        partial = self.path.with_suffix(".partial")
        try:
            partial.write_text(text, encoding="utf-8")
            partial.chmod(_UNIT_MODE)
            os.replace(partial, self.path)
        except PermissionError as error:
            raise StateError(
                f"{self.path} cannot be written: installing a service needs root.",
                reason=ErrorReason.PERMISSION_DENIED,
                next_step="Run the same command with `sudo`, and the full path of the program.",
            ) from error

    def _require_ours(self) -> None:
        if self.path.exists() and not self.path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            raise StateError(
                f"{self.path} was not made by this program.",
                reason=ErrorReason.ALREADY_EXISTS,
                next_step="Choose another name with --name, or move that file away.",
            )


def unit_settings(config_path: Path, config: AgentFile, user: str) -> UnitSettings:
    """Return what the unit needs, for this Python and this configuration; an empty user is the identity's owner.

    Raises IdentityError when nobody enrolled here, StateError when the identity is root's.
    """
    load_identity(config.agent.identity_dir)
    place = config_path.absolute()
    agent = config.agent
    files = [agent.proxy_password_file]
    files += [each for table in config.data.values() for each in (table.path, table.password_file)]
    logs = {path.parent for path in config.log.files}
    return UnitSettings(
        # Isolated: the unit's program loads nothing from the folder that it runs in.
        command=(sys.executable, "-I", "-m", "edge_agent", "run", "--config", str(place)),
        user=user or _owner_of(agent.identity_dir),
        config_path=place,
        read=(Path(sys.prefix), Path(sys.base_prefix), *filter(None, files)),
        written=(agent.identity_dir, agent.cache_dir, agent.state_dir, *logs),
        ram_limit_mb=agent.ram_limit_mb,
    )


def _owner_of(folder: Path) -> str:
    owner = folder.owner()
    if owner == "root":
        raise StateError(
            f"{folder} belongs to root, and the agent is not to run as root.",
            reason=ErrorReason.PERMISSION_DENIED,
            next_step=f"`useradd --system --shell /usr/sbin/nologin ravan`, then `chown -R ravan: {folder.parent}`.",
        )
    return owner


def _require_owner(settings: UnitSettings) -> None:
    """Have the folders that the service writes to; all are its user's."""
    for folder in settings.written:
        if not folder.exists():
            folder.mkdir(parents=True, mode=0o700)
            _give(folder, settings.user)
        if folder.owner() != settings.user:
            raise StateError(
                f"{folder} belongs to {folder.owner()}, not to {settings.user}, as whom the service would run.",
                reason=ErrorReason.PERMISSION_DENIED,
                next_step=f"`chown -R {settings.user}: {folder}`",
            )


def _give(folder: Path, user: str) -> None:
    import pwd  # noqa: PLC0415 - Unix only

    account = pwd.getpwnam(user)
    # Root does this in a folder of the user's, who might have put a link in its place meanwhile.
    os.chown(folder, account.pw_uid, account.pw_gid, follow_symlinks=False)


def _systemctl(*arguments: str) -> str:
    program = shutil.which("systemctl")
    if program is None:
        raise ResourceError(
            "This PC has no systemd.",
            reason=ErrorReason.NOT_FOUND,
            next_step="Have another supervisor run `ravan-agent run --config FILE`.",
        )
    # The program is the system's, the arguments are ours.
    done = subprocess.run(  # noqa: S603
        [program, *arguments], capture_output=True, text=True, timeout=_PATIENCE_S, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ResourceError(
            f"`systemctl {' '.join(arguments)}` failed: {said}",
            reason=ErrorReason.WRONG_STATE,
            next_step="Run the command as root; see also `journalctl -u ravan-agent`.",
        )
    return done.stdout
