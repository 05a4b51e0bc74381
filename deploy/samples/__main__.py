"""Write the samples: `python -m deploy.samples`, after every change of a configuration's keys or text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from coordinator import config as coordinator_config
from coordinator.jobs.jobfile import JobFile
from coordinator.jobs.sample import write_sample
from deploy.samples.editing import complete, shorten
from edge_agent import config as agent_config

FOLDER: Final = Path(__file__).parent
HOST: Final = "hq.example"

DATA: Final = "data.work-orders"
"""The table of a site's data that the agent's own sample shows."""

_COORDINATOR_VALUES: Final = {
    "server.hosts": f'["{HOST}", "10.20.0.5"]',
    "server.peer_host": '"one.hq.example"',
    "server.certificate": '"server/server.crt"',
    "server.key": '"server/server.key"',
    "fleet.minimum_agent_version": '"0.2.0"',
    "scheduling.jobs_at_once": "2",
    "evaluation.threads": "2",
    "database.url": '"postgresql://ravan@db.hq.example:5432/ravan"',
    "database.password_file": '"secrets/database_password"',
    "objects.bucket": '"ravan"',
    "objects.prefix": '"plants/"',
    "objects.endpoint": '"https://objects.hq.example:9000"',
    "objects.access_key_id": '"ravan"',
    "objects.secret_file": '"secrets/objects_secret"',
    "limits.data_mb": "500000",
    "log.format": '"json"',
    "log.file": '"ravan.log"',
}

_AGENT_VALUES: Final = {
    "agent.threads": "2",
    "agent.ram_limit_mb": "2048",
    "agent.upload_kib_per_s": "512",
    "agent.download_kib_per_s": "2048",
    "agent.disk_limit_mb": "8192",
    "agent.coordinators": '["hq2.example:8443:8440"]',
    "agent.proxy": '"http://ravan@proxy.example:3128"',
    "host.pause_when_busy": "0.5",
    "host.shifts": '["mon-fri 18:00-06:00", "sat-sun 00:00-24:00"]',
    "policy.minimum_bundle_threshold": "8",
    "policy.allowed_models": f'["{"0123456789abcdef" * 4}"]',
    "policy.allowed_jobs": '["work-orders", "stock-images", "vibration"]',
    "policy.minimum_steps": "10",
    "policy.minimum_examples": "50",
    "policy.owner_key": f'"{"fedcba9876543210" * 4}"',
    "log.format": '"json"',
    "log.file": '"ravan.log"',
    f"{DATA}.path": '"/data/work-orders.csv"',
    f"{DATA}.encoding": '"cp932"',
    f"{DATA}.separator": '";"',
    f"{DATA}.duplicates": '"drop"',
    f"{DATA}.validation_share": "0.1",
}

_OTHER_DATA: Final = """
[data.stock-images]
kind = "images"
path = "/data/stock-images"
labels = "labels.csv"
file = "image"
label = "defect"

[data.vibration]
kind = "series"
path = "/data/vibration.parquet"
format = "parquet"
label = "state"
group = "machine"
columns = { x = "acceleration_x", y = "acceleration_y" }

[data.maintenance]
format = "postgresql"
url = "postgresql://reader@server.example:5432/maintenance"
password_file = "database-password"
query = "SELECT description, subsystem FROM orders WHERE closed"
text = "description"
label = "subsystem"
"""

_JOB_VALUES: Final = {
    "job.minimum_rounds": "4",
    "job.minimum_agent_version": '"0.2.0"',
    "adapter.seed": f'"{"0123456789abcdef" * 4}"',
    "round.training_deadline_s": '"auto"',
    "evaluation.gate": '"not_worse"',
    "evaluation.gate_tolerance": "0.01",
    "allocation.spare_sites": "1",
}

_COMPLETE: Final = "# Every key of {name}, set as an example; leave out what you do not change.\n"
_SHORT: Final = "# The least that {name} has to say; everything else has a default.\n"


def needed_in(model: type[BaseModel]) -> set[str]:
    """Return the keys `table.key` of a file that have no default."""
    return {
        f"{name}.{key}"
        for name, field in model.model_fields.items()
        if isinstance(table := field.annotation, type) and issubclass(table, BaseModel)
        for key, inner in table.model_fields.items()
        if inner.is_required()
    }


def write_samples() -> Mapping[str, str]:
    """Return the text of each sample by its file's name."""
    coordinator, job = coordinator_config.write_sample([HOST]), write_sample()
    # A classifier needs labels, and a site without data takes part in nothing.
    needed_of_job = needed_in(JobFile) | {"training.labels"}
    return {
        "agent.toml": agent_config.SAMPLE,
        "agent.full.toml": _completed("agent.toml", agent_config.SAMPLE, _AGENT_VALUES) + _OTHER_DATA,
        "agent.minimal.toml": _shortened("agent.toml", agent_config.SAMPLE, {f"{DATA}.path"}),
        "coordinator.toml": coordinator,
        "coordinator.full.toml": _completed("coordinator.toml", coordinator, _COORDINATOR_VALUES),
        "coordinator.minimal.toml": _shortened(
            "coordinator.toml", coordinator, needed_in(coordinator_config.CoordinatorFile)
        ),
        "job.toml": job,
        "job.full.toml": _completed("job.toml", job, _JOB_VALUES),
        "job.minimal.toml": _shortened("job.toml", job, needed_of_job),
    }


def _completed(name: str, sample: str, values: Mapping[str, str]) -> str:
    # The sample's own heading speaks of keys in comments.
    _, _, body = sample.partition("\n\n")
    return _COMPLETE.format(name=name) + "\n" + complete(body, values)


def _shortened(name: str, sample: str, needed: set[str]) -> str:
    _, _, body = sample.partition("\n\n")
    return _SHORT.format(name=name) + "\n" + shorten(body, needed)


def main() -> None:
    """Write one file for each."""
    for name, text in write_samples().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote {FOLDER / name}")


if __name__ == "__main__":
    main()
