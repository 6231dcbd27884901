"""The inbox: one for all messages of a mailbox, searched by sender and date; and messages that ask for a secret."""

import re

import pytest

from relay.core.address import Address
from relay.core.portal import DepositState, Secret
from relay.core.portal_accounts import SharedSecret
from relay.portal.gate import deposit_scope, tenant_scope
from relay.portal.options import LimitOptions
from relay.portal.passphrase import shared_hash
from tests.support.portal_site import NOW, PAT, QUICK, a_site

DAY = 86_400.0
SAM = Address.parse("sam@mail.example")


async def signed_in(site, deposit):
    browser = await site.browser().sign_in(deposit)
    await site.take()
    return browser


async def searched(browser, **typed):
    await browser.get("/inbox")
    [form] = [form for form in browser.forms() if form.attributes.get("role") == "search"]
    return await browser.send_form(form, **typed)


def subjects(page) -> list[str]:
    return re.findall(r"subject-\d+", page.text)


async def several(site, count):
    """So many messages, each a day older than the one before; of three senders in turn."""
    senders = ("Dr. Ada <ada@clinic.example>", "Lab <lab@lab.example>", "Billing <pay@clinic.example>")
    return [
        await site.deposit(
            subject=f"subject-{n:03d}",
            origin_from=senders[n % 3],
            deposited_at=NOW - n * DAY / 4,
            expires_at=NOW + 30 * DAY,
        )
        for n in range(count)
    ]


async def test_one_inbox_for_all_messages_of_the_mailbox_newest_first(site):
    deposits = await several(site, 3)
    await site.deposit(mailbox=SAM, subject="subject-999")
    browser = await signed_in(site, deposits[2])
    page = await browser.get("/inbox")
    assert subjects(page) == ["subject-000", "subject-001", "subject-002"]


async def test_pages_lead_from_one_to_the_next(site):
    deposits = await several(site, 120)
    browser = await signed_in(site, deposits[0])
    seen = []
    page = await browser.get("/inbox")
    for _ in range(3):
        seen += subjects(page)
        older = re.search(r'href="(/inbox\?after=[^"]+)"', page.text)
        if older is None:
            break
        page = await browser.get(older[1])
    assert seen == [f"subject-{n:03d}" for n in range(120)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"from": "LAB"}, [1, 4]),
        ({"from": "Pay@clinic"}, [2, 5]),
        ({"from": "doctor@"}, [0, 1, 2, 3, 4, 5]),
        ({"from": "nobody"}, []),
        ({"since": "2026-03-02"}, [0, 1]),
        ({"until": "2026-03-01"}, [2, 3, 4, 5]),
        ({"since": "2026-03-01", "until": "2026-03-01", "from": "ada"}, [3]),
        ({"since": "2026-03-03"}, []),
    ],
)
async def test_search_by_sender_and_date(site, query, found):
    deposits = await several(site, 6)
    browser = await signed_in(site, deposits[0])
    page = await searched(browser, **query)
    assert subjects(page) == [f"subject-{n:03d}" for n in found]


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"until": "2026-02-30"}, {"since": "03/01/2026"}])
async def test_a_date_that_is_none_is_said_to_be_none(site, query):
    browser = await signed_in(site, await site.deposit())
    page = await searched(browser, **query)
    assert page.status_code == 400
    assert "Please enter a date like" in page.text


async def test_searches_for_senders_have_a_limit_of_their_own(site):
    browser = await site.browser().sign_in(await site.deposit())
    most = site.rooms.options.limits.searches.most
    await browser.get("/inbox")
    for _ in range(most):
        assert (await searched(browser, **{"from": "doctor"})).status_code == 200
    [form] = [form for form in browser.forms() if form.attributes.get("role") == "search"]
    assert (await browser.send_form(form, **{"from": "doctor"})).status_code == 429
    assert (await browser.send_form(form, **{"from": "", "since": "2026-01-01"})).status_code == 200
    assert (await browser.get("/inbox")).status_code == 200


async def test_a_search_leads_through_its_pages_and_stands_in_no_address(site):
    deposits = await several(site, 180)
    browser = await signed_in(site, deposits[0])
    page = await searched(browser, **{"from": "lab"})
    seen = subjects(page)
    [form] = [form for form in browser.forms() if form.action == "/inbox" and "after" in form.fields]
    assert form.fields["from"] == "lab"
    page = await browser.client.post("/inbox", data=form.fields)
    seen += subjects(page)
    assert seen == [f"subject-{n:03d}" for n in range(1, 180, 3)]
    assert page.url.query == b""


@pytest.mark.parametrize("after", ["x", "../..", "A" * 500, "deposit-00000000000009"])
async def test_a_made_up_place_to_go_on_from_is_harmless(site, after):
    browser = await signed_in(site, await site.deposit())
    assert (await browser.raw("GET", "/inbox", params={"after": after})).status_code == 200


async def test_what_is_gone_is_not_listed(site):
    deposits = await several(site, 3)
    browser = await signed_in(site, deposits[0])
    await site.rooms.ledger.recalled(deposits[1], by="ops", why="test")
    site.clock.now = NOW + 60
    assert subjects(await browser.get("/inbox")) == ["subject-000", "subject-002"]
    assert (await site.rooms.deposits.find(deposits[1].id)).state is DepositState.RECALLED


# --- a secret that the sender or the clinic set


async def asking(site, *, secret="blue heron 42", scope=None):
    deposit = await site.deposit(secret=Secret.SHARED, subject="planted-subject", origin_from="planted-sender")
    if secret:
        shared = SharedSecret(scope=scope or tenant_scope("clinic"), verifier=shared_hash(secret, QUICK))
        await site.rooms.accounts.set_shared(PAT, shared)
    browser = await signed_in(site, deposit)
    await browser.get(f"/inbox/{deposit.id}")
    assert browser.path == f"/inbox/{deposit.id}/secret"
    return deposit, browser


@pytest.mark.parametrize("scope", ["tenant", "deposit"])
async def test_nothing_shows_before_the_secret_and_all_after(site, scope):
    named = tenant_scope("clinic") if scope == "tenant" else deposit_scope("deposit-00000000000001")
    deposit, browser = await asking(site, scope=named)
    assert "planted" not in browser.page.text
    page = await browser.get("/inbox")
    assert "planted" not in page.text
    assert "A message that asks for a secret" in page.text
    await browser.get(f"/inbox/{deposit.id}/secret")
    page = await browser.send(f"/inbox/{deposit.id}/secret", secret="red heron 42")
    assert page.status_code == 400
    await browser.send(f"/inbox/{deposit.id}/secret", secret=" BLUE heron42 ")
    assert browser.path == f"/inbox/{deposit.id}"
    assert "planted-subject" in (await browser.get("/inbox")).text


async def test_a_secret_is_given_anew_in_each_session_and_after_it_was_changed(site):
    deposit, browser = await asking(site)
    await browser.send(f"/inbox/{deposit.id}/secret", secret="blue heron 42")
    again = await signed_in(site, deposit)
    await again.get(f"/inbox/{deposit.id}")
    assert again.path == f"/inbox/{deposit.id}/secret"
    changed = SharedSecret(scope=tenant_scope("clinic"), verifier=shared_hash("green heron 7", QUICK))
    await site.rooms.accounts.set_shared(PAT, changed)
    await browser.get(f"/inbox/{deposit.id}")
    assert browser.path == f"/inbox/{deposit.id}/secret"


async def test_without_a_secret_that_is_set_the_message_stays_closed(site):
    deposit, browser = await asking(site, secret="")
    assert "has not set a secret" in browser.page.text
    form = {"csrf": re.search(r'name="csrf" value="([0-9a-f]+)"', browser.page.text)[1], "secret": ""}
    await browser.raw("POST", f"/inbox/{deposit.id}/secret", data=form)
    await browser.get(f"/inbox/{deposit.id}")
    assert browser.path == f"/inbox/{deposit.id}/secret"


async def test_a_secret_of_one_clinic_opens_nothing_of_another(site):
    deposit, browser = await asking(site)
    other = await site.deposit(secret=Secret.SHARED, tenant="other", subject="planted-other")
    await browser.send(f"/inbox/{deposit.id}/secret", secret="blue heron 42")
    await browser.get(f"/inbox/{other.id}")
    assert browser.path == f"/inbox/{other.id}/secret"
    assert "planted-other" not in (await browser.get("/inbox")).text


async def test_guessing_the_secret_ends_after_so_many_tries_in_all_browsers(tmp_path):
    async with a_site(tmp_path, limits=LimitOptions(shared_tries=4)) as site:
        deposit, browser = await asking(site)
        other = await signed_in(site, deposit)
        await other.get(f"/inbox/{deposit.id}/secret")
        for one in (browser, other, browser, other):
            page = await one.send(f"/inbox/{deposit.id}/secret", secret="red heron 42")
            assert "not the right secret" in page.text
        page = await browser.send(f"/inbox/{deposit.id}/secret", secret="blue heron 42")
        assert page.status_code == 400
        assert "Please call the clinic" in page.text
        await site.rooms.accounts.clear_shared(PAT, tenant_scope("clinic"))
        await browser.send(f"/inbox/{deposit.id}/secret", secret="blue heron 42")
        assert browser.path == f"/inbox/{deposit.id}"


async def test_a_message_without_a_secret_has_no_page_for_one(site):
    deposit = await site.deposit()
    browser = await signed_in(site, deposit)
    await browser.get(f"/inbox/{deposit.id}/secret")
    assert browser.path == f"/inbox/{deposit.id}"


async def test_not_me_needs_no_secret_and_shows_nothing(site):
    deposit, browser = await asking(site)
    page = await browser.get(f"/inbox/{deposit.id}/not-me")
    assert page.status_code == 200
    assert "planted" not in page.text
    await browser.send(f"/inbox/{deposit.id}/not-me")
    assert (await site.rooms.deposits.find(deposit.id)).state is DepositState.RECALLED
