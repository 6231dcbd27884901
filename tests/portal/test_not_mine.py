"""What says "This is not for me" is on every page of a reader's, and takes away one message, or all of them."""

import pytest

from relay.core.address import Address
from relay.core.portal import DepositState, PostKind, Secret
from relay.core.portal_accounts import Account
from tests.support.portal_site import PAT

LINK = ">This is not for me</a>"


async def states(site, *deposits):
    return [(await site.rooms.deposits.find(one.id)).state for one in deposits]


async def test_it_stands_on_every_page_of_a_reader_s(site):
    deposit = await site.deposit()
    browser = site.browser()
    own = f'href="/m/{deposit.id}/not-me"'
    for path in (f"/m/{deposit.id}", f"/m/{deposit.id}/code"):
        assert own in (await browser.get(path)).text
    for path in ("/sign-in", "/sign-in/code", "/account/recovery", "/genuine", "/nowhere"):
        page = (await browser.get(path)).text
        assert LINK in page, path
        assert 'href="/not-mine"' in page, path
    await browser.sign_in(deposit)
    for path in ("/account/choose", "/account", "/account/passphrase", "/account/totp", "/account/passkey", "/inbox"):
        page = (await browser.get(path)).text
        assert LINK in page, path
        assert 'href="/not-mine"' in page, path
    await browser.get(f"/inbox/{deposit.id}")
    await browser.send(f"/inbox/{deposit.id}/open")
    for path in (f"/inbox/{deposit.id}", f"/inbox/{deposit.id}/reply"):
        assert f'href="/inbox/{deposit.id}/not-me"' in (await browser.get(path)).text, path


async def test_without_a_sign_in_it_says_where_the_button_is(site):
    await site.deposit()
    page = await site.browser().get("/not-mine")
    assert "Open the link in the email" in page.text
    assert "<form" not in page.text.partition("<main")[2]


async def test_each_message_leads_to_its_own_button(site):
    deposit = await site.deposit()
    closed = await site.deposit(secret=Secret.SHARED, subject="closed-subject")
    browser = await site.browser().sign_in(deposit)
    page = await browser.get("/not-mine")
    for one in (deposit, closed):
        assert f'href="/inbox/{one.id}/not-me"' in page.text
    assert "closed-subject" not in page.text
    await browser.get(f"/inbox/{closed.id}/not-me")
    await browser.send(f"/inbox/{closed.id}/not-me")
    assert await states(site, deposit, closed) == [DepositState.WAITING, DepositState.RECALLED]


async def test_all_are_taken_away_once_it_is_confirmed_and_senders_told(site):
    mine = [await site.deposit(message_id=f"m{number}") for number in range(3)]
    other = await site.deposit(mailbox=Address.parse("sam@mail.example"))
    browser = await site.browser().sign_in(mine[0])
    await site.take()
    await browser.get("/not-mine")
    await browser.send("/not-mine")
    assert await states(site, *mine) == [DepositState.WAITING] * 3
    await browser.send("/not-mine", sure="yes")
    assert browser.path == "/not-me"
    assert await states(site, *mine, other) == [DepositState.RECALLED] * 3 + [DepositState.WAITING]
    told = [post for post in await site.take() if post.kind is PostKind.RECEIPT]
    assert [str(post.recipients[0]) for post in told] == ["doctor@clinic.example"] * 3
    await browser.get("/inbox")
    assert browser.path == "/sign-in"


async def test_what_a_recovery_hides_stays(site):
    deposit = await site.deposit()
    browser = await site.browser().sign_in(deposit)
    await site.change_account(hidden_before=site.clock())
    assert deposit.id not in (await browser.get("/not-mine")).text
    shown = await site.deposit(deposited_at=site.clock())
    await browser.get("/not-mine")
    await browser.send("/not-mine", sure="yes")
    assert await states(site, deposit, shown) == [DepositState.WAITING, DepositState.RECALLED]


@pytest.mark.parametrize("factor", ["first", "none"])
async def test_half_a_sign_in_takes_nothing_away(site, factor):
    deposit = await site.deposit()
    account = Account(mailbox=PAT, handle="h" * 43, created_at=0.0, passphrase="set")
    assert await site.rooms.accounts.save(account)
    browser = site.browser()
    if factor == "first":
        await browser.sign_in(deposit)
    page = await browser.get("/not-mine")
    assert "Open the link in the email" in page.text
    await browser.get("/genuine")
    form = {"csrf": page.text.partition('name="csrf" value="')[2][:64], "sure": "yes"}
    await browser.raw("POST", "/not-mine", data=form)
    assert await states(site, deposit) == [DepositState.WAITING]
