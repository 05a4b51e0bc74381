"""Sites that ask for the owner's word, on real processes: no round with a site that lacks it."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_fleet import assert_said, run, running_fleet

SITES = ("north", "south", "west")


def test_no_round_begins_with_a_site_that_the_owner_has_not_endorsed(tmp_path: Path) -> None:
    key = tmp_path / "owner.key"
    owner = run("edge_agent", "owner", "create", "--out", key).stdout.strip()
    with running_fleet(tmp_path) as fleet:
        fleet.add_model()
        for name in SITES:
            fleet.enrol(name)
            text = fleet.config(name).read_text(encoding="utf-8")
            assert '# owner_key = ""' in text
            fleet.config(name).write_text(text.replace('# owner_key = ""', f'owner_key = "{owner}"'), encoding="utf-8")

        def endorse(name: str) -> str:
            identity = json.loads(fleet.agent(name, "identity", "--json").stdout)["identity"]
            return run("edge_agent", "owner", "endorse", "--key", key, "--site", name, "--identity", identity).stdout

        for name in SITES[:2]:
            assert fleet.hq("site", "endorse", name, endorse(name).strip()).returncode == 0
        assert_said(fleet.hq("site", "endorse", "west", "abc"), 1, "128 hexadecimal digits")
        for name in SITES:
            fleet.start(name)
        assert fleet.submit().returncode == 0
        fleet.await_job("refused")
        assert "the owner has not endorsed the site 'west'" in fleet.log("north")
        # The endorsement of another site is none, whatever headquarters makes of it.
        fleet.hq("site", "endorse", "west", endorse("south").strip())
        assert "completed" not in fleet.job().lower()
        fleet.hq("site", "endorse", "west", endorse("west").strip())
        fleet.hq("job", "resume", "tiny")
        fleet.await_job("completed")
