"""`deploy/samples/` holds exactly what the programs write, and their own loaders accept it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from pages import ROOT
from pydantic import BaseModel

from coordinator import config as coordinator_config
from coordinator.jobs.jobfile import JobFile, read_job_file
from coordinator.jobs.sample import write_sample
from edge_agent import config as agent_config
from ravan.logs import LogTable

SAMPLES = ROOT / "deploy" / "samples"
HOST = "hq.example"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


def uncommented(text: str) -> str:
    """Take `# ` off the lines that are keys or tables, as an operator does to set one."""
    return re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)


def keys_in(model: BaseModel) -> set[str]:
    tables = {name: getattr(model, name) for name in type(model).model_fields}
    return {f"{name}.{key}" for name, table in tables.items() for key in getattr(table, "model_fields_set", ())}


def all_keys(model: type[BaseModel]) -> set[str]:
    tables = {name: field.annotation for name, field in model.model_fields.items()}
    return {
        f"{name}.{key}"
        for name, table in tables.items()
        if isinstance(table, type) and issubclass(table, BaseModel)
        for key in table.model_fields
    }


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("coordinator.toml", coordinator_config.write_sample([HOST])),
        ("agent.toml", agent_config.SAMPLE),
        ("job.toml", write_sample()),
    ],
)
def test_sample_is_what_the_program_writes(name: str, written: str) -> None:
    assert sample(name) == written


def test_coordinator_sample_loads_with_the_defaults() -> None:
    loaded = coordinator_config.load_config(SAMPLES / "coordinator.toml", {})
    plain = coordinator_config.CoordinatorFile(
        server=coordinator_config.ServerTable(hosts=(HOST,), data_dir=SAMPLES.resolve())
    )
    assert loaded == plain


def test_coordinator_sample_names_every_key_and_shows_its_default(tmp_path: Path) -> None:
    path = tmp_path / "coordinator.toml"
    path.write_text(uncommented(sample("coordinator.toml")), encoding="utf-8")
    loaded = coordinator_config.load_config(path, {})
    assert keys_in(loaded) == all_keys(coordinator_config.CoordinatorFile)
    default = coordinator_config.CoordinatorFile(
        server=coordinator_config.ServerTable(hosts=(HOST,), data_dir=tmp_path.resolve())
    )
    assert loaded == default


def test_agent_sample_loads_with_the_defaults() -> None:
    loaded = agent_config.load_config(SAMPLES / "agent.toml", {})
    assert loaded.agent.identity_dir == SAMPLES / "identity"
    assert (loaded.policy, loaded.log, loaded.data) == (agent_config.PolicyTable(), LogTable(), {})


def test_agent_sample_names_every_key_and_shows_its_default(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(uncommented(sample("agent.toml")), encoding="utf-8")
    loaded = agent_config.load_config(path, {})
    assert keys_in(loaded) == all_keys(agent_config.AgentFile)
    assert loaded.agent == agent_config.AgentTable(
        identity_dir=tmp_path / "identity",
        cache_dir=tmp_path / "cache",
        state_dir=tmp_path / "state",
        proxy_password_file=tmp_path / "proxy-password",
    )
    assert (loaded.policy, loaded.log) == (agent_config.PolicyTable(), LogTable())
    (table,) = loaded.data.values()
    assert table.model_fields_set == set(agent_config.DataTable.model_fields)


def test_job_sample_loads_and_names_every_key() -> None:
    loaded = read_job_file(sample("job.toml"), source="job.toml")
    named = {f"{table}.{key}" for table, keys in tomllib.loads(sample("job.toml")).items() for key in keys}
    assert keys_in(loaded) == named
    # A seed would make every job of the sample alike; how early a job may end is for its operator to say.
    assert named | {"adapter.seed", "job.patience", "round.target_sites"} == all_keys(JobFile)
