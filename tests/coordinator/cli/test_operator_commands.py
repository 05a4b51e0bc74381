"""A viewer's certificate sees and changes nothing; a revoked one sees nothing, on a coordinator that runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from coordinator_process import found, run, serving


def test_what_a_viewer_may_do_until_it_is_revoked(tmp_path: Path) -> None:
    hq = found(tmp_path / "hq")
    with serving(hq):
        made = hq.run("operator", "create", "mia", "--role", "viewer", "--out", tmp_path / "mia")
        assert made.returncode == 0, made.stderr
        place = (
            *("--server", f"localhost:{hq.ports['site_port']}", "--cert", tmp_path / "mia" / "operator.crt"),
            *("--key", tmp_path / "mia" / "operator.key", "--ca", tmp_path / "mia" / "ca.crt"),
        )
        assert run("job", "list", *place).returncode == 0
        refused = run("token", "create", "--site", "north", *place)
        assert refused.returncode == 1
        assert "mia is a viewer and may not call CreateToken" in refused.stderr
        assert [each["name"] for each in json.loads(hq.run("operator", "list", "--json").stdout)] == ["admin", "mia"]
        assert hq.run("operator", "revoke", "mia").returncode == 0
        gone = run("job", "list", *place)
        assert gone.returncode == 1
        assert "was revoked" in gone.stderr
        assert "operator create mia" in gone.stderr
        assert "revoked" in hq.run("operator", "list").stdout
        assert hq.run("job", "list").returncode == 0  # the administrator goes on
        events = hq.run("events", "--about", "mia", "--json").stdout.splitlines()
        assert [json.loads(each)["kind"] for each in events] == ["operator_created", "operator_revoked"]
        tried = [json.loads(each) for each in hq.run("events", "--kind", "call_denied", "--json").stdout.splitlines()]
        assert [(each["subject"], each["actor"].split(":")[1]) for each in tried] == [
            ("CreateToken", "mia"),
            ("ListJobs", "mia"),
        ]
        assert hq.run("audit", "verify").returncode == 0


@pytest.mark.parametrize("arguments", [("mia",), ("mia", "--role", "king", "--out", "x"), ("mia", "--role", "viewer")])
def test_wrong_use_is_refused(arguments: tuple[str, ...]) -> None:
    assert run("operator", "create", *arguments).returncode == 2
