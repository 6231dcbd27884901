"""What every implementation of ``Accounts`` promises."""

import asyncio
import os
from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.change import AuditEvent
from relay.core.portal import Post, PostKind
from relay.core.portal_accounts import (
    Account,
    Assurance,
    Challenge,
    Device,
    Factor,
    Limit,
    Passkey,
    Plea,
    Redemption,
    Session,
    SharedSecret,
    Told,
)
from relay.protect.sealing import RingVault
from relay.store.portal.account_tables import SCHEMA
from relay.store.portal.accounts import StoredAccounts
from relay.store.portal.deposits import StoredDeposits
from tests.support.portal import PORTALS, a_deposit

NOW = 1_772_442_000.0
DAY = 86_400.0
PAT = Address.parse("planted-pat@mail.example")
SAM = Address.parse("planted-sam@mail.example")
KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.peers)]


class Portal:
    """Processes over one database."""

    def __init__(self, kind, directory) -> None:
        self.harness = PORTALS[kind](directory, lambda: NOW)
        self.deposits = None

    async def open(self) -> StoredAccounts:
        database = await self.harness.database(SCHEMA)
        vault = RingVault(self.harness.ring, os.urandom)
        self.deposits = StoredDeposits(database, vault, lambda: NOW, os.urandom)
        return StoredAccounts(database, vault)

    async def handed_out(self):
        items = await self.deposits.take_outbox(owner="test", lease=60.0, limit=100)
        await self.deposits.forget_outbox([item.seq for item in items])
        return [one.kind for item in items for one in (*item.posts, *item.events)]


@pytest.fixture(params=KINDS)
async def portal(request, tmp_path):
    portal = Portal(request.param, tmp_path)
    yield portal
    await portal.harness.end()


@pytest.fixture
async def accounts(portal):
    return await portal.open()


TOLD = Told(
    posts=(Post(id="01J", kind=PostKind.CODE, recipients=(PAT,), content=b"Subject: x\r\n\r\n", at=NOW),),
    events=(AuditEvent(kind="portal", at=NOW, facts={"what": "test"}),),
)
HANDED = [PostKind.CODE, "portal"]


def a_challenge(**changes) -> Challenge:
    values = {
        "visit": "visit-one",
        "subject": "deposit-1",
        "mailbox": PAT,
        "code": "12345678",
        "tries": 3,
        "made_at": NOW,
        "expires_at": NOW + 600,
    }
    return Challenge(**(values | changes))


def an_account(mailbox=PAT, **changes) -> Account:
    return Account(**({"mailbox": mailbox, "handle": f"handle-{mailbox.local}", "created_at": NOW} | changes))


def a_session(key="s1", **changes) -> Session:
    values = {
        "key": key,
        "mailbox": PAT,
        "assurance": Assurance.MAILED,
        "device": "d1",
        "created_at": NOW,
        "seen_at": NOW,
        "expires_at": NOW + 3600,
    }
    return Session(**(values | changes))


def a_device(device_id="d1", **changes) -> Device:
    values = {
        "id": device_id,
        "token": f"t-{device_id}",
        "name": "Firefox on Linux",
        "first_seen": NOW,
        "last_seen": NOW,
    }
    return Device(**(values | changes))


# --- limits


async def test_a_limit_lets_so_many_pass_in_a_window_and_then_again(accounts):
    limit = Limit(name="codes", key="planted-pat@mail.example", most=3, window=60.0)
    assert [await accounts.allow([limit], now=NOW + n) for n in range(4)] == [None, None, None, limit]
    assert await accounts.allow([limit], now=NOW + 59.9) == limit
    assert await accounts.allow([limit], now=NOW + 60) is None
    other = replace(limit, key="someone else")
    assert await accounts.allow([other], now=NOW) is None


async def test_a_limit_reached_while_the_clock_was_ahead_holds_no_longer_than_one_reached_now(accounts):
    limit = Limit(name="answers", key="planted-pat", most=1, window=60.0)
    assert await accounts.allow([limit], now=NOW + DAY) is None
    assert await accounts.allow([limit], now=NOW + DAY) == limit
    assert await accounts.allow([limit], now=NOW) is None, "the clock was set right"
    assert await accounts.allow([limit], now=NOW - 20) == limit, "another node's clock is a little behind"


async def test_what_one_limit_refuses_counts_under_none(accounts):
    narrow = Limit(name="message", key="m", most=1, window=60.0)
    wide = Limit(name="network", key="n", most=3, window=60.0)
    assert await accounts.allow([wide, narrow], now=NOW) is None
    for _ in range(5):
        assert await accounts.allow([wide, narrow], now=NOW) == narrow
    assert await accounts.allow([wide], now=NOW) is None
    assert await accounts.allow([wide], now=NOW) is None
    assert await accounts.allow([wide, narrow], now=NOW) == wide, "the first that is named, of several"


async def test_a_limit_holds_over_processes_that_race(portal):
    one, other = await portal.open(), await portal.open()
    limit = Limit(name="codes", key="x", most=5, window=60.0)
    asked = [store.allow([limit], now=NOW) for store in (one, other) for _ in range(10)]
    answers = await asyncio.gather(*asked)
    assert answers.count(None) == 5


async def test_a_nonce_is_used_once(portal):
    one, other = await portal.open(), await portal.open()
    answers = await asyncio.gather(*(store.use_once("n", until=NOW + 60) for store in (one, other, one, other)))
    assert sorted(answers) == [False, False, False, True]
    assert not await other.is_used("m")
    assert await one.use_once("m", until=NOW + 60)
    assert await other.is_used("m")


# --- codes

GONE = Redemption()
FITS = Redemption(mailbox=PAT)


async def test_a_code_is_good_once(accounts):
    assert await accounts.challenge(a_challenge(), again_after=30.0) is None
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW + 599) == FITS
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW + 599) == GONE


async def test_a_code_is_bound_to_its_browser_its_message_and_its_time(accounts):
    await accounts.challenge(a_challenge(), again_after=30.0)
    assert await accounts.redeem("visit-two", "deposit-1", "12345678", now=NOW) == GONE
    assert await accounts.redeem("visit-one", "deposit-2", "12345678", now=NOW) == GONE
    assert await accounts.redeem("visit-one", "", "12345678", now=NOW) == GONE
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW + 600) == GONE
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW + 1) == FITS


async def test_wrong_answers_use_up_the_code(accounts):
    await accounts.challenge(a_challenge(tries=3), again_after=30.0)
    answers = [await accounts.redeem("visit-one", "deposit-1", wrong, now=NOW) for wrong in ("00000000", "", "\udcff")]
    assert answers == [Redemption(tries=2), Redemption(tries=1), GONE]
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW) == GONE


async def test_asking_again_soon_changes_nothing_and_later_replaces(portal, accounts):
    limit = [Limit(name="codes", key="x", most=2, window=3600.0)]
    assert await accounts.challenge(a_challenge(), again_after=30.0, limits=limit, told=TOLD) is None
    again = a_challenge(code="87654321", made_at=NOW + 29, expires_at=NOW + 629)
    for _ in range(5):
        assert await accounts.challenge(again, again_after=30.0, limits=limit, told=TOLD) is None
    assert await portal.handed_out() == HANDED
    later = replace(again, made_at=NOW + 30)
    assert await accounts.challenge(later, again_after=30.0, limits=limit, told=TOLD) is None
    assert await portal.handed_out() == HANDED
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW + 31) == Redemption(tries=2)
    assert await accounts.redeem("visit-one", "deposit-1", "87654321", now=NOW + 31) == FITS


async def test_a_code_asked_for_while_the_clock_was_ahead_keeps_none_from_being_sent(portal, accounts):
    ahead = a_challenge(made_at=NOW + DAY, expires_at=NOW + DAY + 600)
    assert await accounts.challenge(ahead, again_after=30.0, told=TOLD) is None
    assert await portal.handed_out() == HANDED
    assert await accounts.challenge(a_challenge(code="87654321"), again_after=30.0, told=TOLD) is None
    assert await portal.handed_out() == HANDED
    assert await accounts.redeem("visit-one", "deposit-1", "87654321", now=NOW + 1) == FITS


async def test_a_limit_keeps_the_code_that_was_sent_before(portal, accounts):
    limit = [Limit(name="codes", key="x", most=1, window=3600.0)]
    assert await accounts.challenge(a_challenge(), again_after=30.0, limits=limit, told=TOLD) is None
    assert await portal.handed_out() == HANDED
    later = a_challenge(code="87654321", made_at=NOW + 60)
    assert await accounts.challenge(later, again_after=30.0, limits=limit, told=TOLD) == limit[0]
    assert await portal.handed_out() == []
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW + 61) == FITS


async def test_no_code_fits_where_there_is_no_account(accounts):
    assert await accounts.challenge(a_challenge(mailbox=None), again_after=30.0) is None
    assert await accounts.redeem("visit-one", "deposit-1", "00000000", now=NOW) == Redemption(tries=2)
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW) == GONE


async def test_a_code_of_an_older_era_fits_nothing(accounts):
    account = await accounts.save(an_account())
    for change in (accounts.save(replace(account, totp="A"), end_sessions=""), accounts.end_all(PAT)):
        assert await accounts.challenge(a_challenge(), again_after=0.0) is None
        await change
        assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW) == GONE
    assert await accounts.challenge(a_challenge(), again_after=0.0) is None
    account = await accounts.account(PAT)
    assert await accounts.save(replace(account, totp_step=5)), "a change, and no new era"
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW) == FITS


async def test_a_code_from_before_the_first_visit_is_of_the_first_era(accounts):
    await accounts.challenge(a_challenge(), again_after=0.0)
    account = await accounts.save(an_account())
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW) == FITS
    await accounts.challenge(a_challenge(), again_after=0.0)
    await accounts.save(replace(account, totp="A"), end_sessions="")
    assert await accounts.redeem("visit-one", "deposit-1", "12345678", now=NOW) == GONE


async def test_of_those_who_race_one_alone_gets_in(portal):
    stores = [await portal.open(), await portal.open()]
    await stores[0].challenge(a_challenge(tries=100), again_after=30.0)
    tries = [stores[n % 2].redeem("visit-one", "deposit-1", "12345678", now=NOW) for n in range(12)]
    answers = await asyncio.gather(*tries)
    assert sorted(answer == FITS for answer in answers) == [False] * 11 + [True]


# --- accounts


async def test_an_account_comes_back_whole(portal, accounts):
    key = Passkey(id="c", public_key="k", sign_count=7, name="phone", created_at=NOW, used_at=NOW + 1)
    account = an_account(passphrase="$argon2id$x", totp="SECRET", totp_step=9, passkeys=(key,), hidden_before=NOW)
    saved = await accounts.save(account, told=TOLD)
    assert saved == replace(account, version=1)
    assert await (await portal.open()).account(PAT) == saved
    assert await accounts.account_of("handle-planted-pat") == saved
    assert await accounts.account(SAM) is None
    assert await accounts.account_of("none") is None
    assert saved.factors == {Factor.PASSPHRASE, Factor.TOTP, Factor.PASSKEY}
    assert await portal.handed_out() == HANDED


async def test_a_mailbox_is_one_account_however_it_is_written(accounts):
    await accounts.save(an_account())
    assert await accounts.account(Address.parse("Planted-PAT@Mail.Example")) is not None
    assert await accounts.save(an_account(handle="another")) is None


async def test_of_two_changes_of_one_state_one_is_refused_and_tells_nobody(portal, accounts):
    first = await accounts.save(an_account())
    other = await portal.open()
    answers = await asyncio.gather(
        accounts.save(replace(first, totp="A"), told=TOLD), other.save(replace(first, totp="B"), told=TOLD)
    )
    assert sorted(answer is None for answer in answers) == [False, True]
    assert await portal.handed_out() == HANDED
    assert (await accounts.account(PAT)).version == 2


async def test_a_change_ends_other_sessions_and_forgets_other_devices(accounts):
    account = await accounts.save(an_account())
    await accounts.start(a_session("mine"), device=a_device("d1"))
    await accounts.start(a_session("theirs", device="d2"), device=a_device("d2"))
    await accounts.start(a_session("sams", mailbox=SAM, device="d3"), device=a_device("d3"))
    assert await accounts.save(replace(account, totp="A"), end_sessions="mine")
    assert await accounts.session("mine", now=NOW) is not None
    assert await accounts.session("theirs", now=NOW) is None
    assert await accounts.session("sams", now=NOW) is not None
    assert [device.id for device in await accounts.devices(PAT)] == ["d1"]


# --- sessions and devices


async def test_a_session_holds_until_its_end(portal, accounts):
    session = a_session(tenant="clinic")
    await accounts.start(session, device=a_device(), told=TOLD)
    other = await portal.open()
    assert await other.session("s1", now=NOW + 3599) == session
    assert await other.session("s1", now=NOW + 3600) is None
    await other.seen("s1", at=NOW + 50)
    await other.seen("s1", at=NOW + 40)
    assert (await accounts.session("s1", now=NOW)).seen_at == NOW + 50
    await accounts.end("s1")
    assert await other.session("s1", now=NOW) is None
    assert await portal.handed_out() == HANDED


async def test_a_new_session_ends_the_one_it_replaces(accounts):
    await accounts.start(a_session("old"))
    await accounts.start(a_session("new"), replaces="old")
    assert await accounts.session("old", now=NOW) is None
    assert await accounts.session("new", now=NOW) is not None


async def test_a_session_of_an_older_era_is_not_kept(portal, accounts):
    account = await accounts.save(an_account())
    assert await accounts.start(a_session("one"), device=a_device(), era=account.era)
    changed = await accounts.save(replace(account, totp="A"), end_sessions="one")
    assert not await accounts.start(a_session("two"), replaces="one", told=TOLD, era=account.era)
    assert await accounts.session("two", now=NOW) is None
    assert await accounts.session("one", now=NOW) is not None, "what it would have replaced stays"
    assert await portal.handed_out() == []
    assert await accounts.start(a_session("two"), era=changed.era)
    assert await accounts.end_all(PAT) == 2
    assert not await accounts.start(a_session("three"), era=changed.era)


async def test_grants_gather_in_their_session_alone(accounts):
    await accounts.start(a_session("one"))
    await accounts.start(a_session("two"))
    await asyncio.gather(*(accounts.grant("one", f"scope{n}") for n in range(5)))
    await accounts.grant("no such", "scope")
    assert (await accounts.session("one", now=NOW)).grants == {f"scope{n}" for n in range(5)}
    assert (await accounts.session("two", now=NOW)).grants == frozenset()


async def test_a_device_is_known_to_its_own_mailbox(accounts):
    await accounts.start(a_session(), device=a_device())
    assert await accounts.device(PAT, "t-d1") == a_device()
    assert await accounts.device(SAM, "t-d1") is None
    await accounts.start(a_session("s2"), device=a_device(last_seen=NOW + 5))
    assert await accounts.devices(PAT) == [a_device(last_seen=NOW + 5)]
    await accounts.start(a_session("s3", mailbox=SAM), device=a_device("other", token="t-d1"))
    assert [device.id for device in await accounts.devices(SAM)] == ["other"]
    assert [device.id for device in await accounts.devices(PAT)] == ["d1"]


async def test_a_forgotten_device_is_signed_out(portal, accounts):
    await accounts.start(a_session("s1", device="d1"), device=a_device("d1"))
    await accounts.start(a_session("s2", device="d2"), device=a_device("d2"))
    assert not await accounts.forget_device(SAM, "d1", told=TOLD)
    assert await portal.handed_out() == []
    assert await accounts.forget_device(PAT, "d1", told=TOLD)
    assert await portal.handed_out() == HANDED
    assert await accounts.session("s1", now=NOW) is None
    assert await accounts.session("s2", now=NOW) is not None
    assert await accounts.device(PAT, "t-d1") is None


async def test_twenty_sessions_and_devices_are_enough(accounts):
    for number in range(25):
        session = a_session(f"s{number:02d}", device=f"d{number:02d}", seen_at=NOW + number)
        await accounts.start(session, device=a_device(f"d{number:02d}", last_seen=NOW + number))
    await accounts.start(a_session("sams", mailbox=SAM), device=a_device("sams"))
    there = [await accounts.session(f"s{number:02d}", now=NOW) is not None for number in range(25)]
    assert there == [False] * 5 + [True] * 20
    assert [device.id for device in await accounts.devices(PAT)] == [f"d{number:02d}" for number in range(24, 4, -1)]
    assert await accounts.session("sams", now=NOW) is not None


async def test_all_sessions_of_a_mailbox_end_at_once(portal, accounts):
    for key in ("one", "two"):
        await accounts.start(a_session(key, device=key), device=a_device(key))
    await accounts.start(a_session("sams", mailbox=SAM), device=a_device("sams"))
    assert await accounts.end_all(PAT, told=TOLD) == 2
    assert await portal.handed_out() == HANDED
    assert await accounts.session("one", now=NOW) is None
    assert list(await accounts.devices(PAT)) == []
    assert await accounts.session("sams", now=NOW) is not None
    assert await accounts.end_all(PAT) == 0


# --- shared secrets


async def test_the_first_scope_that_is_set_counts(accounts):
    tenant, own = SharedSecret(scope="tenant:c", verifier="h1"), SharedSecret(scope="deposit:1", verifier="h2")
    scopes = ("deposit:1", "tenant:c")
    assert await accounts.shared(PAT, scopes) is None
    await accounts.set_shared(PAT, tenant)
    assert await accounts.shared(PAT, scopes) == tenant
    await accounts.set_shared(PAT, own)
    assert await accounts.shared(PAT, scopes) == own
    assert await accounts.shared(SAM, scopes) is None
    await accounts.set_shared(PAT, replace(own, verifier="h3"))
    assert (await accounts.shared(PAT, scopes)).verifier == "h3"


async def test_tries_are_counted_before_they_are_judged(portal, accounts):
    other = await portal.open()
    for scope in ("tenant:c", "never set"):
        if scope == "tenant:c":
            await accounts.set_shared(PAT, SharedSecret(scope=scope, verifier="h"))
        answers = await asyncio.gather(
            *(store.try_shared(PAT, scope, most=4) for store in (accounts, other) for _ in range(4))
        )
        assert answers.count(True) == 4
        assert not await accounts.try_shared(PAT, scope, most=4)
        assert await accounts.try_shared(SAM, scope, most=4)
        await accounts.clear_shared(PAT, scope)
        assert await accounts.try_shared(PAT, scope, most=4)
    await accounts.set_shared(PAT, SharedSecret(scope="never set", verifier="h"))
    assert await accounts.try_shared(PAT, "never set", most=1)


# --- recovery


async def test_a_sender_approves_once_and_for_themselves(portal, accounts):
    await accounts.save(an_account(hidden_before=NOW))
    plea = Plea(token="p", mailbox=PAT, sender="doctor@clinic.example", hidden_before=NOW, expires_at=NOW + DAY)
    await accounts.plead([plea], told=TOLD)
    assert await accounts.plea("p", now=NOW) == plea
    assert await accounts.plea("p", now=NOW + DAY) is None
    assert await accounts.plea("q", now=NOW) is None
    assert await portal.handed_out() == HANDED
    answers = await asyncio.gather(*(accounts.answer("p", now=NOW, told=TOLD) for _ in range(3)))
    assert sorted(answers) == [False, False, True]
    assert await portal.handed_out() == HANDED
    account = await accounts.account(PAT)
    assert account.may_see(a_deposit(deposited_at=NOW - 1))
    assert not account.may_see(
        replace(a_deposit(deposited_at=NOW - 1), sender=replace(a_deposit().sender, address=SAM))
    )


async def test_a_plea_of_an_earlier_recovery_has_lapsed(accounts):
    account = await accounts.save(an_account(hidden_before=NOW))
    await accounts.plead([Plea(token="p", mailbox=PAT, sender="d@c.example", hidden_before=NOW, expires_at=NOW + DAY)])
    await accounts.save(replace(account, hidden_before=NOW + 5))
    assert not await accounts.answer("p", now=NOW + 6)
    assert (await accounts.account(PAT)).shown_from == ()


# --- housekeeping


async def test_what_is_past_its_time_is_swept_and_the_rest_stays(accounts):
    await accounts.allow([Limit(name="a", key="x", most=1, window=60.0)], now=NOW)
    await accounts.use_once("n", until=NOW + 60)
    await accounts.challenge(a_challenge(), again_after=30.0)
    await accounts.save(an_account())
    await accounts.start(a_session(), device=a_device())
    await accounts.plead([Plea(token="p", mailbox=PAT, sender="d@c.example", hidden_before=NOW, expires_at=NOW + DAY)])
    assert await accounts.sweep(now=NOW + 59) == 0
    assert await accounts.sweep(now=NOW + 60) == 2
    assert await accounts.sweep(now=NOW + 3600) == 2
    assert await accounts.sweep(now=NOW + DAY) == 1
    assert await accounts.sweep(now=NOW + 500 * DAY) == 1
    assert await accounts.account(PAT) is not None


async def test_nothing_at_rest_says_who_it_is_or_lets_anybody_in(portal, accounts):
    await accounts.save(an_account(handle="h", passphrase="planted-hash", totp="planted-totp"))
    await accounts.challenge(a_challenge(code="planted-code"), again_after=30.0)
    await accounts.start(a_session(), device=a_device(name="planted-browser"))
    await accounts.allow([Limit(name="a", key="planted-network", most=1, window=60.0)], now=NOW)
    await accounts.set_shared(PAT, SharedSecret(scope="tenant:c", verifier="planted-verifier"))
    plea = Plea(token="p", mailbox=PAT, sender="planted-sender", hidden_before=NOW, expires_at=NOW + DAY)
    await accounts.plead([plea])
    assert b"planted" not in portal.harness.at_rest()
