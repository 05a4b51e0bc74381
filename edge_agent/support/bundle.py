"""Write a zip file for whoever helps: versions, settings, hardware, doctor's report and the last log, without data."""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from edge_agent.config import AgentFile
from edge_agent.finding import Finding
from edge_agent.hardware.limits import LimitReader
from edge_agent.hardware.probe import HardwareProbe
from edge_agent.support.log_lines import reduce_lines
from edge_agent.support.redaction import LEFT_OUT, Redactor, redact_settings
from ravan.errors import ErrorReason, StateError
from ravan.identity.keyfiles import write_private
from ravan.version import VERSION

MOST_LOG_BYTES: Final = 4 << 20
_LIBRARIES: Final = (
    *("grpcio", "protobuf", "cryptography", "numpy", "torch", "transformers", "tokenizers", "safetensors"),
    *("pydantic", "structlog", "psutil", "pillow", "pyarrow", "psycopg", "pywin32"),
)


def write_bundle(config: AgentFile, findings: Iterable[Finding], path: Path) -> tuple[str, ...]:
    """Write the file, readable by its owner alone, with doctor's findings; return the names of what is in it.

    Raises StateError ALREADY_EXISTS, ResourceError DISK_FULL.
    """
    if path.exists():
        raise StateError(
            f"{path} exists.", reason=ErrorReason.ALREADY_EXISTS, next_step="Name a new file, or remove that one."
        )
    redactor = Redactor(config)
    hardware = HardwareProbe(LimitReader(configured_mb=config.agent.ram_limit_mb), config.agent.disk_share()).read()
    contents = {
        "versions.json": _json(_versions()),
        "configuration.json": _json(redact_settings(config)),
        "hardware.json": _json(dataclasses.asdict(hardware)),
        "doctor.json": _json([_reported(finding, redactor) for finding in findings]),
        **_logs(config, redactor),
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in contents.items():
            bundle.writestr(name, content)
    write_private(path, file.getvalue())
    return tuple(contents)


def _versions() -> dict[str, str]:
    def installed(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "not installed"

    own = {"ravan": VERSION, "python": sys.version, "system": platform.platform()}
    return own | {name: installed(name) for name in _LIBRARIES}


def _reported(finding: Finding, redactor: Redactor) -> dict[str, Any]:
    """Tell of data no more than whether they are in order."""
    about_data = finding.name.partition(" ")[0] == "data"
    texts = {"sentence": finding.sentence, "remedy": finding.remedy}
    cleaned = {key: (LEFT_OUT if about_data else redactor.clean(text)) if text else "" for key, text in texts.items()}
    return {"name": finding.name, "good": finding.good, **cleaned}


def _logs(config: AgentFile, redactor: Redactor) -> Mapping[str, str]:
    """Return the newest of the log, as far as it fits; nothing where [log] names no file."""
    room = MOST_LOG_BYTES
    logs: dict[str, str] = {}
    for path in config.log.files:
        if room > 0 and path.is_file():
            content = path.read_bytes()[-room:]
            room -= len(content)
            logs[f"logs/{path.name}"] = "".join(f"{line}\n" for line in _lines(content, redactor))
    return logs


def _lines(content: bytes, redactor: Redactor) -> Iterator[str]:
    return reduce_lines(content.decode("utf-8", errors="replace").splitlines(), redactor)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"
