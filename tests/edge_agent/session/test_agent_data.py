"""What a real session says when its data cannot be used."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from agent_world import World
from data_connectors import write_sqlite
from scripted_headquarters import Left
from tiny_jobs import ROWS, write_rows

from ravan.manifest.phases import DropReason
from ravan.manifest.profile import JobProfile


async def test_missing_data_is_told_before_anything_is_downloaded(world: World) -> None:
    text = world.config_path.read_text()
    world.config_path.write_text(text.replace("[data.orders]", "[data.other]"))
    async with world.agent():
        world.prepare()
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 0, DropReason.DATA)
    assert list((world.config_path.parent / "cache" / "blobs").iterdir()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rows: rows.unlink(),
        lambda rows: rows.write_bytes(b"text,label\n\xff\xfe,pump\n"),
        lambda rows: rows.write_text("text,label\nhose burst,pmup\n"),
        lambda rows: rows.write_text("description,label\nhose burst,pump\n"),
    ],
    ids=["missing", "not text", "unknown label", "missing column"],
)
async def test_bad_data_is_told_as_a_reason_only(world: World, spoil: Any) -> None:
    spoil(world.root / "rows.csv")
    async with world.agent():
        world.prepare()
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 0, DropReason.DATA)


async def test_too_few_examples_are_told_as_a_reason_only(world: World) -> None:
    write_rows(world.root / "rows.csv", ROWS[:9])
    async with world.agent():
        world.prepare()
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 0, DropReason.DATA)


async def test_data_that_is_spoilt_between_rounds_leaves_the_round(world: World) -> None:
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        write_rows(world.root / "rows.csv", (("hose burst", "pmup"),))
        world.train(1)
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.DATA)


async def test_a_database_is_asked_again_before_a_round(world: World) -> None:
    database = world.root / "orders.db"
    write_sqlite(database, [{"text": text, "label": label} for text, label in ROWS])
    head, table, _ = world.config_path.read_text().partition("[data.orders]\n")
    keys = (f'path = "{database}"', 'format = "sqlite"', 'query = "SELECT * FROM orders"')
    world.config_path.write_text("\n".join((head + table, *keys)))
    async with world.agent():
        world.prepare()
        await world.hq.hear(JobProfile)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("DELETE FROM orders WHERE label = 'pump'")
        # Eight rows are left, fewer than a site takes part with.
        world.train(1)
        assert await world.hq.hear(Left) == Left(world.plan.job_id, 1, DropReason.DATA)
