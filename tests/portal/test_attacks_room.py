"""Attacks on the disk's room: when it is nearly full, what can wait is refused, and what is urgent goes on."""

import time

import pytest

from relay.core.errors import StoreFullError
from relay.store.portal.drafts import StoredDrafts
from relay.store.sqlite.space import Space
from tests.support.portal_site import CONTENT

_MORE_THAN_ANY_DISK = 1 << 60


def fill(site):
    """As if the disk were full but for its reserve."""
    driver = site.rooms.deposits._database._driver
    driver._space = Space(driver.path.parent, _MORE_THAN_ANY_DISK, time.monotonic)


@pytest.mark.law
async def test_a_message_is_refused_before_it_is_kept_and_one_that_is_kept_is_not_asked_again(site):
    """A worker that deposits anew after a crash learns what is there; the copy that is refused waits in the queue."""
    kept = await site.deposit()
    fill(site)
    with pytest.raises(StoreFullError, match="in reserve"):
        await site.deposit()
    assert await site.rooms.deposits.deposit(kept, CONTENT) == kept
    figures = await site.rooms.deposits.figures()
    assert sum(count for _, count in figures.by_state) == 1
    assert await site.take() == []


async def test_people_read_and_take_back_while_there_is_no_room(site):
    deposit = await site.deposit()
    fill(site)
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/inbox/{deposit.id}")
    await browser.send(f"/inbox/{deposit.id}/open")
    assert "planted-body" in browser.page.text
    await browser.get(f"/inbox/{deposit.id}/not-me")
    await browser.send(f"/inbox/{deposit.id}/not-me", sure="yes")
    assert browser.path == "/not-me"


async def test_a_file_is_refused_with_words_and_what_was_written_is_kept(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await browser.get(f"/inbox/{deposit.id}")
    await browser.send(f"/inbox/{deposit.id}/open")
    fill(site)
    await browser.get(f"/inbox/{deposit.id}/reply")
    form = browser.form(f"/inbox/{deposit.id}/reply")
    answer = await browser.raw(
        "POST",
        form.action,
        data=form.fields | {"text": "planted-words"},
        files={"file": ("a.txt", b"x" * 1000, "text/plain")},
    )
    assert answer.status_code == 503
    assert "We have no room right now" in answer.text
    assert answer.headers["retry-after"] == "601"
    assert "planted-words" in (await browser.get(f"/inbox/{deposit.id}/reply")).text


async def test_a_piece_of_a_file_is_refused_when_the_room_has_gone_meanwhile(site):
    drafts: StoredDrafts = site.drafts
    deposit = await site.deposit()
    from relay.core.portal_drafts import Draft, DraftKind, Upload

    draft = Draft(id="d1", deposit_id=deposit.id, kind=DraftKind.REPLY, post_id="p1", saved_at=site.clock())
    await drafts.save(draft)
    upload = Upload(id="u1", name="a.txt", content_type="text/plain", size=10)
    assert await drafts.add("d1", upload, most=10, octets=1000)
    fill(site)
    with pytest.raises(StoreFullError):
        await drafts.append("u1", 0, b"12345")
    assert [one.received for one in (await drafts.of(deposit.id, DraftKind.REPLY)).uploads] == [0]
