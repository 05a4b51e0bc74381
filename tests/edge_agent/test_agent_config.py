"""agent.toml: the written sample, paths, refusals, and the data tables that jobs ask for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_agent.app import site_terms
from edge_agent.config import SAMPLE, AgentFile, DataTable, load_config, prepare_config
from edge_agent.identity.keystore import Identity
from edge_agent.identity.reach import reach_of
from edge_agent.session.acceptance import SiteTerms
from ravan.data.source import TableFormat
from ravan.errors import ConfigError, DataError, ErrorReason
from ravan.identity.join import CoordinatorAddress
from ravan.ids import SiteId

DATA = '\n[data.work-orders]\npath = "orders.csv"\nformat = "csv"\ntext = "description"\nlabel = "subsystem"\n'


def config_file(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_the_sample_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(config_file(tmp_path, SAMPLE), {}).policy == AgentFile().policy
    assert load_config(config_file(tmp_path, SAMPLE), {}).agent.threads == 0


def test_the_sample_shows_every_key_with_its_default() -> None:
    lines = [line.removeprefix("# ") for line in SAMPLE.splitlines()]
    text = "\n".join(
        line for line in lines if line.startswith("[") or (" = " in line and "." not in line.split(" = ")[0])
    )
    shown = tomllib.loads(text)
    assert shown.pop("data").keys() == {"work-orders"}
    plain = AgentFile().model_dump(mode="json", exclude={"data"})
    # It has no default that could be shown.
    assert shown["agent"].pop("proxy_password_file")
    assert plain["agent"].pop("proxy_password_file") is None
    assert shown == plain


def test_the_sample_shows_every_key_of_a_data_table_with_its_default() -> None:
    begin = SAMPLE.index("# [data.work-orders]")
    keys = [line.removeprefix("# ") for line in SAMPLE[begin:].splitlines()]
    shown = tomllib.loads("\n".join(line for line in keys if re.match(r"\[|[a-z_]+ = ", line)))["data"]["work-orders"]
    # Those that have no default that could be shown.
    for key in ("path", "password_file", "text", "label"):
        assert shown.pop(key)
    plain = DataTable(path=Path("x")).model_dump(mode="json", exclude={"path", "password_file", "text", "label"})
    assert shown == plain


def test_paths_of_data_are_relative_to_the_file(tmp_path: Path) -> None:
    text = """[data.orders]
        format = "postgresql"
        url = "postgresql://reader@server:5432/plant"
        query = "SELECT text, label FROM orders"
        password_file = "password"
        """
    table = load_config(config_file(tmp_path, text), {}).data_table("orders")
    assert (table.path, table.password_file) == (None, tmp_path / "password")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("", "path is missing"),
        ('format = "sqlite"\npath = "a"', "query is missing"),
        ('format = "sqlite"\nquery = "SELECT 1"', "path is missing"),
        ('format = "postgresql"\nquery = "SELECT 1"', "url is missing"),
        ('format = "postgresql"\nurl = "postgresql://a@b/c"', "query is missing"),
        ('format = "postgresql"\nurl = "postgresql://a@b/c"\nquery = "SELECT 1"\npath = "a"', "path is not for"),
        ('path = "a"\nurl = "postgresql://a@b/c"', "url is for"),
        ('path = "a"\nquery = "SELECT 1"', "query is for databases alone"),
        ('format = "postgresql"\nurl = "postgresql://a:secret@b/c"\nquery = "SELECT 1"', "no password may stand here"),
        ('path = "a"\nlabels = "subsystem"', "the column of the labels is `label`"),
        ('path = "a"\nseparator = "x"', "separator"),
        ('path = "a"\nvalidation_share = 1.0', "validation_share"),
        ('path = "a"\nencoding = "shift-jis"', "encoding"),
    ],
)
def test_keys_of_data_that_do_not_go_together_are_named(tmp_path: Path, keys: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file(tmp_path, f"[data.orders]\n{keys}\n"), {})
    assert told in str(caught.value)
    if "secret" in keys:
        assert "secret" not in f"{caught.value} {caught.value.next_step}"


def test_a_data_table_may_be_appended(tmp_path: Path) -> None:
    table = load_config(config_file(tmp_path, SAMPLE + DATA), {}).data_table("work-orders")
    assert (table.path, table.format) == (tmp_path / "orders.csv", TableFormat.CSV)
    assert (table.text, table.label) == ("description", "subsystem")


def test_folders_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, '[agent]\ncache_dir = "models"\n'), {})
    assert config.agent.cache_dir == tmp_path / "models"
    assert config.agent.identity_dir == tmp_path / "identity"


def test_environment_wins(tmp_path: Path) -> None:
    environment = {"RAVAN_AGENT_THREADS": "3", "RAVAN_AGENT_UPLOAD_KIB_PER_S": "64"}
    config = load_config(config_file(tmp_path, "[agent]\nthreads = 1\n"), environment)
    assert (config.agent.threads, config.agent.upload_kib_per_s) == (3, 64)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[agent]\nthread = 1\n", "`threads`"),
        ("[data.orders]\npath = 'x'\nformat = 'csv'\ntexts = 't'\nlabel = 'l'\n", "`text`"),
        ("[policy]\nminimum_bundle_threshold = 2\n", "minimum_bundle_threshold"),
        ("[policy]\nallowed_models = ['abc']\n", "allowed_models"),
        ("[policy]\nminimum_steps = 0\n", "minimum_steps"),
        ("[data.orders]\npath = 'x'\nformat = 'xlsx'\ntext = 't'\nlabel = 'l'\n", "data.orders.format"),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file(tmp_path, text), {})
    assert told in f"{caught.value} {caught.value.next_step}"


def test_data_that_the_site_does_not_have(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, DATA), {})
    with pytest.raises(DataError) as caught:
        config.data_table("work_orders")
    assert caught.value.reason is ErrorReason.DATA_MISSING
    assert "[data.work_orders]" in str(caught.value)
    assert "`work-orders`" in caught.value.next_step


def test_the_whole_policy_reaches_the_session(tmp_path: Path) -> None:
    model = "ab" * 32
    text = (
        f'[policy]\nminimum_bundle_threshold = 9\nallowed_models = ["{model}"]\n'
        f'allowed_jobs = ["paint"]\nminimum_steps = 30\nowner_key = "{"0f" * 32}"\n'
    )
    identity = Identity(
        site=SiteId("north"),
        address=CoordinatorAddress(host="hq.example", enrolment_port=8440, site_port=8443),
        tls_key=b"",
        certificate=b"",
        ca_certificate=b"",
        identity_key=Ed25519PrivateKey.generate(),
        manifest_key=bytes(32),
    )

    terms = site_terms(load_config(config_file(tmp_path, text), {}), identity)

    assert terms == SiteTerms(
        site=SiteId("north"),
        identity_key=identity.identity_key.public_key().public_bytes_raw(),
        minimum_bundle_threshold=9,
        allowed_models=frozenset({model}),
        allowed_jobs=frozenset({"paint"}),
        minimum_steps=30,
        owner_key=b"\x0f" * 32,
    )


def test_a_folder_that_is_being_enrolled_gets_its_proxy_into_its_file(tmp_path: Path) -> None:
    prepared = prepare_config(tmp_path / "agent.toml", proxy='http://a"b@px:3128', proxy_password_file=Path("secret"))
    (tmp_path / "agent.toml").write_text(prepared.text)
    loaded = load_config(tmp_path / "agent.toml", {}).agent
    assert loaded.proxy == prepared.settings.agent.proxy == 'http://a"b@px:3128'
    assert loaded.proxy_password_file == Path("secret").absolute()


def test_the_environment_counts_while_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVAN_AGENT_COORDINATORS", '["hq-b", "hq-c:2:1"]')
    prepared = prepare_config(tmp_path / "agent.toml", proxy="", proxy_password_file=None)
    assert prepared.settings.agent.coordinators == ("hq-b", "hq-c:2:1")
    assert prepared.text == SAMPLE


@pytest.mark.parametrize("proxy", ["px:3128", "http://u:secret@px:3128"])
def test_a_proxy_that_cannot_be_used_is_refused_and_its_password_not_shown(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(ConfigError, match=r"`agent\.proxy`") as caught:
        prepare_config(tmp_path / "agent.toml", proxy=proxy, proxy_password_file=None)
    assert "secret" not in f"{caught.value} {caught.value.next_step}"


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ('proxy_password_file = "nowhere"', "proxy_password_file"),
        ('proxy_password_variable = "RAVAN_NOT_SET"', "RAVAN_NOT_SET"),
    ],
)
def test_a_proxy_whose_password_is_not_there_is_no_proxy(tmp_path: Path, key: str, told: str) -> None:
    config = load_config(config_file(tmp_path, f'[agent]\nproxy = "http://u@px:3128"\n{key}\n'), {})
    with pytest.raises(ConfigError, match=r"\[agent\] proxy_password") as caught:
        reach_of(config.agent, {})
    assert told in f"{caught.value} {caught.value.next_step}"
