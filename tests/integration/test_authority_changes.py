"""Another authority or server certificate, over real TLS and without a restart; never one that nobody named."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from membership_ports import PROCESS, Credentials, Membership, membership

from coordinator.enrolment import pki as pki_module
from coordinator.enrolment import rollover
from coordinator.enrolment.ca import Authority, create_authority, issue_server
from coordinator.enrolment.live_keys import LiveKeys
from coordinator.enrolment.own_ca import read_own_authority
from coordinator.enrolment.pki import (
    NEXT_CA_CERTIFICATE,
    NEXT_CA_KEY,
    ServerFiles,
    create_pki,
    read_authority,
    write_leaves,
)
from coordinator.enrolment.rollover import introduce, make_hand_over, retire, switch
from edge_agent.identity.enrol import enrol
from edge_agent.identity.grants import follow_hand_over
from edge_agent.identity.keystore import Identity, load_identity, save_trust
from edge_agent.identity.recovery import renew_by_identity
from edge_agent.session.connection import Coordinator
from edge_agent.session.departure import depart
from edge_agent.session.renewals import Renewals
from ravan.clock import ManualClock
from ravan.errors import ConfigError, ErrorReason, IdentityError, RavanError
from ravan.identity.certificates import is_issued_by, load_certificate, load_certificates
from ravan.identity.handover import encode_hand_over, sign_hand_over
from ravan.identity.keyfiles import write_private
from ravan.identity.keys import new_tls_key, private_pem
from ravan.manifest.instructions import Greeting
from ravan.rpc.tls import ServerShow, live_tls

NOW = time.time()
HOSTS = ["hq.example"]


@asynccontextmanager
async def headquarters(keys: LiveKeys) -> AsyncIterator[Membership]:
    """Serve from a folder whose files may be replaced."""

    def anyone() -> ServerShow:
        pki = keys.current()
        return ServerShow(key=pki.server_key, certificate=pki.server_certificate)

    def members() -> ServerShow:
        return dataclasses.replace(anyone(), client_authorities=keys.current().trusted_by_server)

    shown = Credentials(enrolment=live_tls(anyone), sites=live_tls(members))
    async with membership(keys, now=NOW, credentials=shown) as hq:
        yield hq


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    create_pki(tmp_path / "pki", HOSTS, now=NOW)
    return tmp_path / "pki"


async def greeting(identity: Identity) -> Greeting:
    coordinator = Coordinator(identity)
    try:
        async with aclosing(coordinator.watch(PROCESS, 0)) as messages:
            first = await anext(messages)
    finally:
        await coordinator.close()
    assert isinstance(first, Greeting)
    return first


async def connect(folder: Path) -> None:
    """Do what an agent does with its greeting."""
    coordinator = Coordinator(load_identity(folder))
    renewals = Renewals(folder, coordinator, ManualClock(NOW))
    hello = await greeting(coordinator.identity)
    if hello.hand_over:
        await renewals.follow(hello.hand_over)
    await coordinator.close()


async def renew(folder: Path) -> None:
    coordinator = Coordinator(load_identity(folder))
    await Renewals(folder, coordinator, ManualClock(NOW)).renew()
    await coordinator.close()


async def refusal(identity: Identity) -> RavanError:
    with pytest.raises(RavanError) as caught:
        await greeting(identity)
    return caught.value


async def test_a_roll_over_locks_out_nobody_who_was_there(pki: Path, tmp_path: Path) -> None:
    keys = LiveKeys(pki)
    old = keys.current().authority.certificate
    async with headquarters(keys) as hq:
        await hq.enrol(tmp_path / "pc")
        introduce(pki, now=NOW)
        new = load_certificate(keys.current().next_ca)
        await connect(tmp_path / "pc")
        assert load_certificates(load_identity(tmp_path / "pc").ca_certificate) == (old, new)
        # everything is still the old one's, also for those that enrol meanwhile
        await hq.enrol(tmp_path / "pc-8", site="plant-8")
        await connect(tmp_path / "pc-8")

        switch(pki, HOSTS, now=NOW)
        assert keys.current().authority.certificate == new
        await connect(tmp_path / "pc")  # with its certificate of the old authority
        await renew(tmp_path / "pc")
        renewed = load_identity(tmp_path / "pc")
        assert is_issued_by(load_certificate(renewed.certificate), new)
        assert load_certificates(renewed.ca_certificate) == (new,)
        await hq.enrol(tmp_path / "pc-9", site="plant-9")

        retire(pki)
        assert not (await greeting(renewed)).hand_over
        await refusal(load_identity(tmp_path / "pc-8"))
        await renew(tmp_path / "pc-8")  # by its identity key
        await connect(tmp_path / "pc-8")
    assert not any((pki / name).exists() for name in ("next-ca.key", "next-ca.crt", "old-ca.crt", "hand-over.txt"))


async def test_a_pc_that_was_away_follows_the_hand_over_by_hand(pki: Path, tmp_path: Path) -> None:
    keys = LiveKeys(pki)
    async with headquarters(keys) as hq:
        away = await hq.enrol(tmp_path / "pc")
        text = introduce(pki, now=NOW)
        switch(pki, HOSTS, now=NOW)
        assert (await refusal(away)).reason is ErrorReason.IDENTITY_MISMATCH
        followed = follow_hand_over(away, text)
        save_trust(tmp_path / "pc", followed)
        await renew_by_identity(tmp_path / "pc", followed)
        retire(pki)
        await greeting(load_identity(tmp_path / "pc"))


async def test_an_authority_that_nobody_named_is_not_trusted(pki: Path, tmp_path: Path) -> None:
    keys, foreign = LiveKeys(pki), create_authority(NOW)
    async with headquarters(keys) as hq:
        own = await hq.enrol(tmp_path / "pc")
    forged = encode_hand_over(sign_hand_over(foreign.key, foreign.certificate, foreign.certificate, bytes(32)))
    with pytest.raises(IdentityError) as caught:
        follow_hand_over(own, forged)
    assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH


async def test_rebuilt_headquarters_get_a_pc_back_with_a_join_string_alone(tmp_path: Path) -> None:
    folders = [tmp_path / "first", tmp_path / "second"]
    for each in folders:
        create_pki(each, HOSTS, now=NOW)
    async with headquarters(LiveKeys(folders[0])) as before:
        old = await before.enrol(tmp_path / "pc")
    async with headquarters(LiveKeys(folders[1])) as rebuilt:
        join_string, _ = await rebuilt.registry.create_token("plant-7")
        with pytest.raises(RavanError) as caught:
            await enrol(join_string, tmp_path / "pc", timeout_s=20)
        assert caught.value.reason is ErrorReason.ALREADY_EXISTS
        assert "--replace" in caught.value.next_step
        assert load_identity(tmp_path / "pc").certificate == old.certificate
        new = await enrol(join_string, tmp_path / "pc", timeout_s=20, replace=True)
        await greeting(new)
        # repeating it, as after a lost answer, is the same enrolment
        again = await enrol(join_string, tmp_path / "pc", timeout_s=20, replace=True)
    assert again.certificate == new.certificate
    assert new.identity_key.public_key() == old.identity_key.public_key()
    assert new.manifest_key != old.manifest_key
    text = make_hand_over(folders[0], load_certificates(new.ca_certificate)[0], new.manifest_key)
    followed = follow_hand_over(old, text)
    assert followed.manifest_key == new.manifest_key


async def test_a_new_server_certificate_is_shown_without_a_restart(pki: Path, tmp_path: Path) -> None:
    keys = LiveKeys(pki)
    before = keys.current().server_certificate
    async with headquarters(keys) as hq:
        own = await hq.enrol(tmp_path / "pc")
        write_leaves(pki, keys.current().authority, HOSTS, NOW)
        await greeting(own)
        assert keys.current().server_certificate != before
        (pki / "server.key").write_bytes(b"half a file")
        await greeting(own)  # with what was sound last


async def test_a_server_certificate_of_the_operators_own_is_used(pki: Path, tmp_path: Path) -> None:
    authority, key = LiveKeys(pki).current().authority, new_tls_key()
    files = ServerFiles(certificate=tmp_path / "own.crt", key=tmp_path / "own.key")
    certificate = issue_server(authority, key.public_key(), hosts=HOSTS, now=NOW)
    write_private(files.certificate, certificate.public_bytes(Encoding.PEM))
    write_private(files.key, private_pem(key))
    keys = LiveKeys(pki, files)
    assert keys.current().server_certificate == files.certificate.read_bytes()
    async with headquarters(keys) as hq:
        await greeting(await hq.enrol(tmp_path / "pc"))
    foreign = issue_server(create_authority(NOW), key.public_key(), hosts=HOSTS, now=NOW)
    write_private(files.certificate, foreign.public_bytes(Encoding.PEM))
    with pytest.raises(IdentityError):
        LiveKeys(pki, files)


async def test_a_server_certificate_of_the_operators_own_is_by_the_next_authority_before_that_acts(
    pki: Path, tmp_path: Path
) -> None:
    files = ServerFiles(certificate=tmp_path / "own.crt", key=tmp_path / "own.key")

    def put_up(authority: Authority) -> None:
        key = new_tls_key()
        certificate = issue_server(authority, key.public_key(), hosts=HOSTS, now=NOW)
        write_private(files.key, private_pem(key))
        write_private(files.certificate, certificate.public_bytes(Encoding.PEM))

    put_up(LiveKeys(pki).current().authority)
    keys = LiveKeys(pki, files)
    acting = (pki / "ca.crt", pki / "ca.key", pki / "server.crt", pki / "admin.crt")
    before = [path.read_bytes() for path in acting]
    async with headquarters(keys) as hq:
        await hq.enrol(tmp_path / "pc")
        introduce(pki, now=NOW)
        await connect(tmp_path / "pc")
        with pytest.raises(IdentityError, match="is not by the next authority") as caught:
            switch(pki, HOSTS, now=NOW, server=files)
        assert caught.value.reason is ErrorReason.IDENTITY_MISMATCH
        assert [path.read_bytes() for path in acting] == before
        put_up(read_authority(pki / NEXT_CA_KEY, pki / NEXT_CA_CERTIFICATE))
        await connect(tmp_path / "pc")  # the old one is shown until the switch
        with pytest.raises(IdentityError, match="not by the authority that acts"):
            LiveKeys(pki, files)
        switch(pki, HOSTS, now=NOW, server=files)
        assert keys.current().server_certificate == files.certificate.read_bytes()
        await connect(tmp_path / "pc")


async def test_leaving_revokes_the_certificate_and_deletes_the_keys(pki: Path, tmp_path: Path) -> None:
    async with headquarters(LiveKeys(pki)) as hq:
        own = await hq.enrol(tmp_path / "pc")
        spare = {path.name: path.read_bytes() for path in (tmp_path / "pc").iterdir()}
        await depart(tmp_path / "pc", tell=True)
        assert {path.name for path in (tmp_path / "pc").iterdir()} <= {"lock"}
        assert (await hq.site()).revoked_at == NOW
        assert (await refusal(own)).reason is ErrorReason.IDENTITY_REVOKED
        # the answer was lost: the same again
        for name, content in spare.items():
            write_private(tmp_path / "pc" / name, content)
        await depart(tmp_path / "pc", tell=True)
    assert {path.name for path in (tmp_path / "pc").iterdir()} <= {"lock"}


async def test_who_cannot_tell_keeps_the_keys_until_told_to_go_without(pki: Path, tmp_path: Path) -> None:
    async with headquarters(LiveKeys(pki)) as hq:
        await hq.enrol(tmp_path / "pc")
    with pytest.raises(RavanError) as caught:
        await depart(tmp_path / "pc", tell=True)
    assert caught.value.reason is ErrorReason.UNREACHABLE
    load_identity(tmp_path / "pc")
    await depart(tmp_path / "pc", tell=False)
    with pytest.raises(IdentityError):
        load_identity(tmp_path / "pc")


async def test_leaving_ends_the_streams_of_the_site_at_once(pki: Path, tmp_path: Path) -> None:
    async with headquarters(LiveKeys(pki)) as hq:
        own = await hq.enrol(tmp_path / "pc")
        watching, leaving = Coordinator(own), Coordinator(own)
        async with aclosing(watching.watch(PROCESS, 0)) as messages:
            await anext(messages)
            await leaving.withdraw()
            with pytest.raises(IdentityError) as caught:
                await anext(messages)
        await asyncio.gather(watching.close(), leaving.close())
    assert caught.value.reason is ErrorReason.IDENTITY_REVOKED
    assert not hq.fleet.online()


def companys(
    issuer: Authority | None = None, *, ca: bool = True, days: int = 700, limited: bool = False, old: bool = False
) -> Authority:
    """A certificate authority as a company might issue it, without what Ravan's own has."""
    key, moment = new_tls_key(), datetime.fromtimestamp(NOW, UTC)
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Plant CA {serial:x}"[:30])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.certificate.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(moment - timedelta(days=900))
        .not_valid_after(moment + timedelta(days=-1 if old else days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if limited:
        permitted = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example")], excluded_subtrees=None)
        builder = builder.add_extension(permitted, critical=True)
    signer = issuer.key if issuer else key
    return Authority(key=key, certificate=builder.sign(signer, hashes.SHA256()))


def written(authority: Authority, folder: Path) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    write_private(folder / "own-ca.crt", authority.certificate.public_bytes(Encoding.PEM))
    write_private(folder / "own-ca.key", private_pem(authority.key))
    return folder / "own-ca.crt", folder / "own-ca.key"


async def test_an_authority_below_a_companys_own_serves_sites(tmp_path: Path) -> None:
    files = written(companys(companys()), tmp_path / "own")
    create_pki(tmp_path / "pki", HOSTS, now=NOW, authority=read_own_authority(*files, now=NOW))
    async with headquarters(LiveKeys(tmp_path / "pki")) as hq:
        await greeting(await hq.enrol(tmp_path / "pc"))
    # nothing that it signs outlives it
    assert LiveKeys(tmp_path / "pki").current().server_expires_at <= NOW + 700 * 86_400


@pytest.mark.parametrize(
    ("authority", "flaw"),
    [
        (companys(ca=False), "may not sign certificates"),
        (companys(old=True), "not valid now"),
        (companys(limited=True), "limited to certain names"),
        (dataclasses.replace(companys(), key=new_tls_key()), "not the certificate's"),
    ],
)
def test_an_unfit_authority_is_refused_with_the_flaw(authority: Authority, flaw: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=flaw) as caught:
        read_own_authority(*written(authority, tmp_path), now=NOW)
    assert caught.value.next_step


def test_a_switch_that_was_cut_off_is_repeated(pki: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The power goes before each file in turn; the same command finishes it."""
    introduce(pki, now=NOW)
    wanted = load_certificate((pki / "next-ca.crt").read_bytes())
    old = (pki / "ca.crt").read_bytes()
    for survivors in range(6):
        written_files = 0

        def cut(path: Path, content: bytes) -> None:
            nonlocal written_files
            if written_files == survivors:  # noqa: B023 - called within this turn alone
                raise KeyboardInterrupt
            written_files += 1
            write_private(path, content)

        with monkeypatch.context() as patched:
            patched.setattr(rollover, "write_private", cut)
            patched.setattr(pki_module, "write_private", cut)
            with pytest.raises(KeyboardInterrupt):
                switch(pki, HOSTS, now=NOW)
    switch(pki, HOSTS, now=NOW)
    now = LiveKeys(pki).current()
    assert now.authority.certificate == wanted
    assert now.old_ca == old
