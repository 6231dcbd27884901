"""Attacks with the disk in hand: what was deleted by whom ever leaves the files of the database at the next round."""

import apsw
import pytest

from relay.portal.sweep import Sweeper, SweepOptions
from tests.support.portal_site import CONTENT


def sweeper(site) -> Sweeper:
    async def forget():
        await site.rooms.accounts.sweep(now=site.clock())

    return Sweeper(site.rooms.deposits, site.rooms.ledger, forget=forget, options=SweepOptions(), clock=site.clock)


async def sealed(site) -> bytes:
    """The only data key as it lies on the disk."""
    return await site.rooms.deposits._database.read(lambda cursor: cursor.row("SELECT sealed FROM data_keys")[0])


@pytest.mark.law
async def test_the_key_of_a_message_that_is_taken_back_leaves_the_disk_at_the_next_round(site):
    for take_back in (
        lambda deposit: site.rooms.ledger.not_me(deposit, ()),
        lambda deposit: site.rooms.ledger.recalled(deposit, by="ops", why="wrong mailbox"),
        lambda deposit: site.rooms.ledger.withdrawn(deposit.message_id, deposit.number),
    ):
        deposit = await site.deposit(content=CONTENT * 40)
        await sweeper(site).sweep()
        key = await sealed(site)
        assert key in site.harness.at_rest()
        assert await take_back(deposit)
        await sweeper(site).sweep()
        assert key not in site.harness.at_rest()


@pytest.mark.law
async def test_while_somebody_reads_it_is_put_off_and_not_forgotten(site, tmp_path):
    deposit = await site.deposit(content=CONTENT * 40)
    key = await sealed(site)
    [path] = tmp_path.rglob("portal.db")
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        reader.execute("BEGIN").fetchall()
        reader.execute("SELECT count(*) FROM deposits").fetchall()
        assert await site.rooms.ledger.recalled(deposit, by="ops", why="wrong mailbox")
        await sweeper(site).sweep()
        assert key in site.harness.at_rest(), "the reader still sees the state of before"
    finally:
        reader.close()
    await sweeper(site).sweep()
    assert key not in site.harness.at_rest()
