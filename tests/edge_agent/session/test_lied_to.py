"""A real agent whose coordinator lies to it: it leaves the round with a counted reason and says nothing more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from agent_world import Round, World
from scripted_headquarters import Arrived, Attached, Left
from secagg_driver import sole
from tiny_jobs import identity_key

from ravan.codec.documents import encode_assignment, encode_roster, sign_document
from ravan.codec.secagg_messages import Submission
from ravan.manifest.documents import DocumentKind
from ravan.manifest.instructions import ConfirmSurvivors, ExchangeShares, MaskAndUpload, Reveal, Train
from ravan.manifest.phases import DropReason
from ravan.manifest.profile import JobProfile
from ravan.manifest.roster import Roster
from ravan.secagg.coordinator_states import Abort
from ravan.secagg.messages import RevealRequest, SurvivorSet
from ravan.secagg.transcript import advertise_bytes, document_digest
from ravan.wire.v1.site_service_pb2 import WatchResponse


async def substitute_a_key(current: Round) -> None:
    await current.advertise()
    roster = sole(current.machine.close_advertise())
    assert isinstance(roster, Roster)
    own, other, *rest = roster.entries
    message = advertise_bytes(current.digest, other.index, other.mask_key, own.channel_key)
    stolen = replace(other, channel_key=own.channel_key, signature=identity_key(9).sign(message))
    changed = replace(roster, entries=(own, stolen, *rest))
    current.roster_digest = document_digest(DocumentKind.ROSTER, encode_roster(changed))
    current.world.hq.tell(ExchangeShares(roster=current.world.sign(DocumentKind.ROSTER, changed)))


async def alter_a_share(current: Round) -> None:
    await current.advertise()
    await current.share()
    deliveries = current.machine.close_sharing()
    assert not isinstance(deliveries, Abort)
    ciphertexts = dict(deliveries[0].ciphertexts)
    ciphertexts[1] = ciphertexts[1][:-1] + bytes([ciphertexts[1][-1] ^ 1])
    altered = replace(deliveries[0], ciphertexts=ciphertexts)
    current.world.hq.tell(MaskAndUpload(round=current.reference, delivery=altered))


async def declare_it_dead(current: Round) -> None:
    await current.advertise()
    await current.share()
    await current.upload()
    dead = SurvivorSet(survivors=(1, 2, 3), bundles=(0, 1, 2))
    current.world.hq.tell(ConfirmSurvivors(round=current.reference, survivors=dead))


async def name_another_survivor_set(current: Round) -> None:
    await current.advertise()
    await current.share()
    await current.upload()
    request = await current.confirm()
    other = SurvivorSet(survivors=(0, 1, 2), bundles=request.survivor_set.bundles)
    current.world.hq.tell(ConfirmSurvivors(round=current.reference, survivors=other))


async def ask_under_too_few_signatures(current: Round) -> None:
    await current.advertise()
    await current.share()
    await current.upload()
    request = await current.confirm()
    few = replace(request, signatures=request.signatures[:2])
    current.world.hq.tell(Reveal(round=current.reference, request=few))


async def sign_a_roster_with_another_key(current: Round) -> None:
    await current.advertise()
    roster = sole(current.machine.close_advertise())
    assert isinstance(roster, Roster)
    forged = sign_document(DocumentKind.ROSTER, encode_roster(roster), identity_key(9))
    current.world.hq.tell(ExchangeShares(roster=forged))


async def cut_a_digest_short(current: Round) -> None:
    await current.advertise()
    await current.share()
    deliveries = current.machine.close_sharing()
    assert not isinstance(deliveries, Abort)
    hq = current.world.hq

    def cut(message: WatchResponse) -> WatchResponse:
        if message.HasField("delivery"):
            message.delivery.round.assignment_digest = b"short"
        return message

    hq.garble = cut
    hq.tell(MaskAndUpload(round=current.reference, delivery=deliveries[0]))


async def test_what_cannot_be_read_ends_the_round_as_well_and_is_not_asked_for_again(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        for number, lie in enumerate((sign_a_roster_with_another_key, cut_a_digest_short), start=1):
            await lie(Round(world, *world.train(number)))
            assert await world.hq.hear(Left) == Left("", 0, DropReason.PROTOCOL), lie.__name__
        # The stream goes on behind it, without a second call.
        await Round(world, *world.train(3)).advertise()
    said = [world.hq._heard.get_nowait() for _ in range(world.hq._heard.qsize())]
    assert not [each for each in said if isinstance(each, Attached | Arrived)]


async def test_an_assignment_under_a_wrong_signature_is_refused_where_there_is_no_round(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        forged = sign_document(DocumentKind.ASSIGNMENT, encode_assignment(world.assignment()), identity_key(9))
        world.hq.tell(Train(assignment=forged))
        assert await world.hq.hear(Left) == Left("", 0, DropReason.PROTOCOL)
        # Its number is not taken: the true one of that number is followed.
        await Round(world, *world.train(1)).advertise()


LIES: tuple[Callable[[Round], Awaitable[None]], ...] = (
    substitute_a_key,
    alter_a_share,
    declare_it_dead,
    name_another_survivor_set,
    ask_under_too_few_signatures,
)


async def test_every_lie_ends_its_round_here_with_reason_protocol(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        for number, lie in enumerate(LIES, start=1):
            current = Round(world, *world.train(number))
            await lie(current)
            suspect = 1 if lie is alter_a_share else None
            left = Left(world.plan.job_id, number, DropReason.PROTOCOL, suspect)
            assert await world.hq.hear(Left) == left, lie.__name__
            # Later lies, or the truth, get no answer any more.
            everyone = SurvivorSet(survivors=(0, 1, 2, 3), bundles=(0,))
            world.hq.tell(Reveal(round=current.reference, request=RevealRequest(survivor_set=everyone, signatures=())))
    while not world.hq._heard.empty():
        assert not isinstance(world.hq._heard.get_nowait(), Submission | Arrived | Left)
