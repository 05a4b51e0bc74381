"""`deploy/samples/` holds what the programs write, and whole and least configurations; their loaders accept each."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT
from pydantic import BaseModel

from coordinator import config as coordinator_config
from coordinator.jobs.jobfile import JobFile, read_job_file
from coordinator.jobs.sample import write_sample
from deploy.samples.__main__ import write_samples
from deploy.samples.editing import complete
from edge_agent import config as agent_config
from ravan.errors import ConfigError
from ravan.logs import LogTable

SAMPLES = ROOT / "deploy" / "samples"
HOST = "hq.example"

LOADERS: dict[str, Callable[[Path], BaseModel]] = {
    "agent": lambda path: agent_config.load_config(path, {}),
    "coordinator": lambda path: coordinator_config.load_config(path, {}),
    "job": lambda path: read_job_file(path.read_text(encoding="utf-8"), source=path.name),
}
MODELS: dict[str, type[BaseModel]] = {
    "agent": agent_config.AgentFile,
    "coordinator": coordinator_config.CoordinatorFile,
    "job": JobFile,
}


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


def test_the_folder_holds_what_its_command_writes() -> None:
    written = write_samples()
    assert {path.name for path in SAMPLES.glob("*.toml")} == set(written)
    for name, text in written.items():
        assert sample(name) == text, f"run `python -m deploy.samples`: {name} is out of date"


@pytest.mark.parametrize("name", LOADERS)
def test_a_full_sample_sets_every_key(name: str) -> None:
    loaded = LOADERS[name](SAMPLES / f"{name}.full.toml")
    assert keys_in(loaded) == all_keys(MODELS[name])
    assert not re.search(r"^# *[a-z_]+ = ", sample(f"{name}.full.toml"), re.MULTILINE)
    if isinstance(loaded, agent_config.AgentFile):
        assert loaded.data["work-orders"].model_fields_set == set(agent_config.DataTable.model_fields)


@pytest.mark.parametrize("name", LOADERS)
def test_a_full_sample_differs_from_the_programs_own_in_values_alone(name: str) -> None:
    full, own = tomllib.loads(sample(f"{name}.full.toml")), tomllib.loads(uncommented(sample(f"{name}.toml")))
    full["data"] = {key: full["data"][key] for key in own.get("data", {})} if "data" in full else {}
    own.setdefault("data", {})
    assert set(paths_in(full)) == set(paths_in(own))
    assert full != own


@pytest.mark.parametrize("name", LOADERS)
def test_a_minimal_sample_loads_and_has_nothing_to_spare(name: str, tmp_path: Path) -> None:
    text = sample(f"{name}.minimal.toml")
    LOADERS[name](SAMPLES / f"{name}.minimal.toml")
    whole = tomllib.loads(text)
    keys = list(paths_in(whole))
    assert keys
    for path in keys:
        file = tmp_path / f"{name}.toml"
        file.write_text(toml(without(whole, path)), encoding="utf-8")
        with pytest.raises(ConfigError):
            LOADERS[name](file)


def test_a_value_for_a_key_that_is_no_more_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"server\.gone"):
        complete("[server]\n# port = 1\n", {"server.gone": "2"})


def paths_in(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Each key of a TOML document, below its tables; values that are tables of free names count as values."""
    for name, value in tree.items():
        if isinstance(value, dict) and name != "columns":
            yield from paths_in(value, (*above, name))
        else:
            yield (*above, name)


def without(tree: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """The same document less one key; its table stays."""
    copy = deepcopy(tree)
    table = copy
    for name in path[:-1]:
        table = table[name]
    del table[path[-1]]
    return copy


def toml(tree: dict[str, Any], above: str = "") -> str:
    """TOML of tables with text, numbers and lists, which JSON writes alike."""
    values = "".join(f"{key} = {json.dumps(value)}\n" for key, value in tree.items() if not isinstance(value, dict))
    return values + "".join(
        f"[{above}{name}]\n{toml(table, f'{above}{name}.')}" for name, table in tree.items() if isinstance(table, dict)
    )


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
