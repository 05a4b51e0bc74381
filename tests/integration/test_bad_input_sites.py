"""Bad input at a site, tried on real processes: data files, join strings, identities, another CA."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_fleet import Fleet, assert_said, await_true, run, running_fleet
from tiny_jobs import write_rows

from ravan.identity.join import decode_invitation, encode_invitation


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A coordinator with enrolled sites, of which none runs yet; each test has sites of its own."""
    with running_fleet(tmp_path_factory.mktemp("fleet")) as made:
        for name in ("reader", "lost", "north", "south", "west", "east", "twin", "gone"):
            made.enrol(name)
        yield made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A coordinator with another CA."""
    with running_fleet(tmp_path_factory.mktemp("stranger")) as made:
        yield made


def spoil(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be opened: No such file or directory"),
        (b"", "holds no row."),
        (b"text,label\n", "holds no row with a text"),
        (b"text,class\nleak,pump\n", "has no column 'label' in line 1; its columns are: text, class"),
        (b"text,label\nl\xe4rm,pump\n", "is not UTF-8 text"),
        (b"\x00\x01\x02", "has no column 'text'"),
    ],
)
def test_data_check_says_what_is_wrong_with_a_file(fleet: Fleet, content: bytes | None, sentence: str) -> None:
    data = fleet.folder / "reader.csv"
    spoil(data, content)
    assert_said(fleet.agent("reader", "data", "check"), 1, f"[data.orders] {data}", sentence)


def test_doctor_names_a_bad_data_file_and_its_remedy(fleet: Fleet) -> None:
    spoil(fleet.folder / "reader.csv", b"text,label\n")
    doctor = fleet.agent("reader", "doctor")
    assert doctor.returncode == 1
    [bad] = [line for line in doctor.stdout.splitlines() if line.startswith("BAD")]
    assert "reader.csv holds no row with a text.  -> Check that" in bad


def test_a_join_string_is_damaged_used_expired_or_of_another_coordinator(fleet: Fleet, stranger: Fleet) -> None:
    folder = fleet.folder / "new"
    good = fleet.token("new")
    damaged = good[:-9] + ("A" if good[-9] != "A" else "B") + good[-8:]
    for text in (good[:60], damaged):
        assert_said(run("edge_agent", "enroll", text, "--dir", folder), 1, "damaged or was not copied completely")
    mine, other = decode_invitation(good), decode_invitation(stranger.token("new"))
    foreign = encode_invitation(dataclasses.replace(other, address=mine.address))
    refused = run("edge_agent", "enroll", foreign, "--dir", folder)
    assert_said(refused, 1, "did not prove to be the coordinator", "new join string")
    assert "Handshake failed" not in refused.stderr
    unknown = encode_invitation(dataclasses.replace(mine, token_id=other.token_id, token_secret=other.token_secret))
    assert_said(run("edge_agent", "enroll", unknown, "--dir", folder), 1, "token", "new join string")
    brief, issued = fleet.token("brief", "--ttl", "1s"), time.time()
    await_true(lambda: time.time() > issued + 1.5, "the end of the token")
    expired = run("edge_agent", "enroll", brief, "--dir", fleet.folder / "brief")
    assert_said(expired, 1, "The token for brief has expired", "ravan-coordinator token create --site brief")
    assert run("edge_agent", "enroll", good, "--dir", folder).returncode == 0
    again = run("edge_agent", "enroll", good, "--dir", fleet.folder / "second")
    assert_said(again, 1, "The token for new was used before", "ravan-coordinator token create --site new")


def test_an_agent_of_another_ca_says_so_and_harms_nobody(fleet: Fleet, stranger: Fleet) -> None:
    path = fleet.folder / "lost" / "identity" / "site.json"
    ports = json.loads((stranger.plant.coordinator_folder / "daemon.json").read_text())
    site = json.loads(path.read_text())
    path.write_text(json.dumps(site | {key: ports[key] for key in ("site_port", "enrolment_port")}))
    doctor = fleet.agent("lost", "doctor")
    assert doctor.returncode == 1
    assert "BAD  coordinator: localhost:" in doctor.stdout
    assert "did not prove to be the coordinator" in doctor.stdout
    fleet.start("lost")
    await_true(lambda: "did not prove to be the coordinator" in fleet.log("lost"), "the sentence in the agent's log")
    assert "Traceback" not in fleet.log("lost")
    fleet.stop("lost")
    assert "lost" not in stranger.hq("site", "list", "--json").stdout


def test_bad_data_in_a_job_leave_it_to_the_others(fleet: Fleet) -> None:
    assert fleet.add_model().returncode == 0
    write_rows(fleet.folder / "east.csv", (("secret text", "pumps"),))
    for name in ("north", "south", "west", "east"):
        fleet.start(name)
    assert fleet.submit().returncode == 0
    told = fleet.await_job("east", "cannot take part (data)")
    assert "pumps" not in told
    picture = fleet.await_job("completed")
    assert "3/3" in picture
    log = fleet.log("east")
    assert "east.csv, line 2, has the label 'pumps', which the job does not know." in log
    assert "Did you mean 'pump'?" in log
    assert "secret text" not in log
    hq_log = fleet.plant.log("coordinator").read_text()
    assert "pumps" not in hq_log
    assert '"reason": "data"' in hq_log


def test_a_second_agent_of_the_same_identity_is_told_and_the_first_goes_on(fleet: Fleet) -> None:
    fleet.start("twin")
    await_true(lambda: '"connected"' in fleet.log("twin"), "the first agent")
    assert_said(fleet.agent("twin", "run"), 1, "Another process on this PC uses the identity in")
    shutil.copytree(fleet.folder / "twin", fleet.folder / "copy")
    fleet.start("copy")
    await_true(lambda: "Another agent is connected as twin." in fleet.log("copy"), "the refusal of the copied folder")
    [twin] = [site for site in json.loads(fleet.hq("site", "list", "--json").stdout) if site["name"] == "twin"]
    assert "online" in twin["state"]
    for name in ("copy", "twin"):
        assert fleet.agents[name].poll() is None
        fleet.stop(name)


def test_a_revoked_site_ends_with_a_sentence(fleet: Fleet) -> None:
    fleet.start("gone")
    await_true(lambda: '"connected"' in fleet.log("gone"), "the agent")
    assert fleet.hq("site", "revoke", "gone").returncode == 0
    assert fleet.agents["gone"].wait(timeout=30) == 1
    assert "The certificate of gone was revoked" in fleet.log("gone")
    assert "Traceback" not in fleet.log("gone")
    again = fleet.agent("gone", "run")
    assert again.returncode == 1
    assert "Error: The certificate of gone was revoked" in again.stderr
    doctor = fleet.agent("gone", "doctor")
    assert doctor.returncode == 1
    assert "BAD  coordinator: The certificate of gone was revoked" in doctor.stdout
