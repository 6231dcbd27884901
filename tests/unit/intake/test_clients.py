import asyncio
import hashlib
from ipaddress import ip_network

import pytest
import structlog

from relay.core.address import NULL_SENDER, Address, ReversePath
from relay.core.errors import StoreUnavailableError
from relay.intake.clients import ClientDirectory
from relay.intake.limits import ByteBudget, ConnectionCount, ConnectionLimits, address_key
from relay.intake.throttle import (
    AUTH_THROTTLED,
    AUTH_UNAVAILABLE,
    RATE_EXCEEDED,
    RATE_UNKNOWN,
    AuthThrottle,
    RateLimiter,
    ThrottleOptions,
)
from tests.support.intake import SECRET, Counters, client


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Clock:
    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


# --- rights ---


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [
        ("a@clinic.example", True),
        ("a@CLINIC.example", True),
        ("a@sub.clinic.example", False),
        ("a@lab.example", False),
        ("a@x.lab.example", True),
        ("a@x.y.lab.example", True),
        ("a@notlab.example", False),
        ("nurse@hospital.example", True),
        ("other@hospital.example", False),
    ],
)
def test_senders(sender, allowed):
    assert client().may_send(ReversePath(Address.parse(sender))) is allowed


def test_the_null_sender_is_a_right_of_its_own():
    assert client().may_send(NULL_SENDER)
    assert not client(null_sender=False).may_send(NULL_SENDER)


def test_a_client_without_senders_may_send_as_nobody():
    assert not client(sender_domains=(), senders=frozenset()).may_send(ReversePath(Address.parse("a@clinic.example")))


def test_authentication():
    directory = ClientDirectory([client(), client(name="mute", secret_sha256="")])
    there = {"address": "192.0.2.1", "now": 0.0}
    assert directory.authenticate("ehr", SECRET, **there).name == "ehr"
    assert directory.authenticate("ehr", "wrong", **there) is None
    assert directory.authenticate("nobody", SECRET, **there) is None
    assert directory.authenticate("mute", "", **there) is None
    assert directory.authenticate("nobody", "no client has this secret", **there) is None
    assert directory.authenticate("mute", "no client has this secret", **there) is None


def test_a_previous_secret_is_good_until_its_time():
    directory = ClientDirectory([client(previous_secret_sha256=digest("old"), previous_until=100.0)])
    assert directory.authenticate("ehr", "old", address="192.0.2.1", now=99.0)
    assert directory.authenticate("ehr", SECRET, address="192.0.2.1", now=99.0)
    assert directory.authenticate("ehr", "old", address="192.0.2.1", now=100.0) is None


def test_a_client_bound_to_networks_logs_in_from_there_alone():
    directory = ClientDirectory([client(networks=(ip_network("10.1.0.0/16"), ip_network("2001:db8::/32")))])
    for address, good in [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("10.2.0.1", False), ("2001:db8::5", True)]:
        assert bool(directory.authenticate("ehr", SECRET, address=address, now=0.0)) is good


def test_the_narrowest_trusted_network_names_the_client():
    directory = ClientDirectory([client(), client(name="lab")])
    trusted = (
        (ip_network("10.0.0.0/8"), "ehr"),
        (ip_network("10.1.0.0/16"), "lab"),
        (ip_network("10.9.0.0/16"), "gone"),
    )
    assert directory.by_network(trusted, "10.1.0.1").name == "lab"
    assert directory.by_network(trusted, "10.2.0.1").name == "ehr"
    assert directory.by_network(trusted, "192.0.2.1") is None
    assert directory.by_network(trusted, "10.9.0.1") is None, "a network of an unknown client trusts nobody"


def test_secrets_are_not_shown():
    assert digest(SECRET) not in repr(client())


# --- limits ---


def test_connections_are_counted_by_address_and_in_all():
    count = ConnectionCount(ConnectionLimits(total=3, per_address=2))
    assert [count.open(key) for key in "aab"] == [None] * 3
    assert count.open("c").code == 421
    count.close("b")
    assert str(count.open("a").enhanced) == "4.7.0"
    count.close("a")
    assert count.open("a") is None


def test_ipv6_counts_by_site():
    assert address_key("2001:db8:1:2:3::4") == address_key("2001:db8:1:2:ffff::1%eth0") == "2001:db8:1:2::"
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"


def test_the_byte_budget():
    budget = ByteBudget(100)
    assert budget.take(80)
    assert not budget.is_high
    assert budget.take(20)
    assert budget.is_high
    assert not budget.take(1)
    budget.give(50)
    assert budget.used == 50


# --- throttle ---


async def test_failures_throttle_an_address_over_all_workers():
    counters, clock = Counters(), Clock()
    options = ThrottleOptions(failures_per_address=3, failures_per_account=100)
    workers = [AuthThrottle(counters, clock, options) for _ in range(2)]
    for number in range(3):
        assert await workers[number % 2].refusal("192.0.2.1", f"name{number}") is None
        await workers[number % 2].failed("192.0.2.1", f"name{number}")
    clock.now += options.refresh
    assert [await worker.refusal("192.0.2.1", "x") for worker in workers] == [AUTH_THROTTLED] * 2
    assert await workers[0].refusal("192.0.2.2", "x") is None
    clock.now += options.window
    assert await workers[0].refusal("192.0.2.1", "x") is None


async def test_failures_throttle_an_account_but_not_where_it_is_known():
    counters, clock = Counters(), Clock()
    throttle = AuthThrottle(counters, clock, ThrottleOptions(failures_per_address=100, failures_per_account=5))
    throttle.succeeded("10.0.0.1", "ehr")
    for number in range(5):
        await throttle.failed(f"192.0.2.{number}", "ehr")
    assert await throttle.refusal("198.51.100.1", "ehr") == AUTH_THROTTLED
    assert await throttle.refusal("10.0.0.1", "ehr") is None, "nobody locks a client out from elsewhere"
    assert not any("ehr" in counter for counter, _ in counters.sums), "what strangers type is not stored"


async def test_one_device_with_an_old_password_locks_out_nobody_known_behind_the_same_address():
    counters, clock = Counters(), Clock()
    options = ThrottleOptions(failures_per_address=3, failures_per_account=100)
    throttle = AuthThrottle(counters, clock, options)
    throttle.succeeded("192.0.2.1", "ehr")
    for _ in range(3):
        await throttle.failed("192.0.2.1", "copier")
    assert await throttle.refusal("192.0.2.1", "copier") == AUTH_THROTTLED
    assert await throttle.refusal("192.0.2.1", "never-seen") == AUTH_THROTTLED
    assert await throttle.refusal("192.0.2.1", "ehr") is None
    for _ in range(3):
        await throttle.failed("192.0.2.1", "ehr")
    assert await throttle.refusal("192.0.2.1", "ehr") == AUTH_THROTTLED, "guesses at a known name are counted, too"
    clock.now += options.window
    assert await throttle.refusal("192.0.2.1", "ehr") is None
    assert not any("ehr" in counter for counter, _ in counters.sums), "what strangers type is not stored"


async def test_reading_counts_is_cached():
    counters, clock = Counters(), Clock()
    throttle = AuthThrottle(counters, clock, ThrottleOptions())
    for _ in range(50):
        await throttle.refusal("192.0.2.1", "ehr")
    assert counters.calls == 2


async def test_a_store_that_is_down_means_slow_and_not_open():
    counters, clock = Counters(), Clock()
    throttle = AuthThrottle(counters, clock, ThrottleOptions())
    counters.error = StoreUnavailableError("down")
    assert await throttle.refusal("192.0.2.1", "ehr") == AUTH_UNAVAILABLE
    await throttle.failed("192.0.2.1", "ehr")
    counters.error = None
    assert await throttle.refusal("192.0.2.1", "ehr") == AUTH_THROTTLED


@pytest.fixture
def told(monkeypatch):
    monkeypatch.setattr("relay.intake.throttle.log", structlog.get_logger())  # one used before keeps its way out
    with structlog.testing.capture_logs() as lines:
        yield lines


def words(lines):
    return [(line["event"], line["what"], line.get("uncounted")) for line in lines]


async def test_an_outage_is_told_once_and_so_is_its_end_however_many_try_meanwhile(told):
    counters, clock = Counters(), Clock()
    throttle = AuthThrottle(counters, clock, ThrottleOptions())
    counters.error = StoreUnavailableError("down")
    for number in range(100):
        assert await throttle.refusal(f"192.0.2.{number}", "ehr") == AUTH_UNAVAILABLE
        clock.now += 30
    await throttle.failed("192.0.2.1", "ehr")
    counters.error = None
    for number in range(100, 110):
        assert await throttle.refusal(f"192.0.2.{number}", "x") is None
    assert words(told) == [
        ("cannot be counted", "failed logins", None),
        ("is counted again", "failed logins", 102),
    ]


async def test_a_store_that_comes_and_goes_fills_no_log(told):
    counters, clock = Counters(), Clock()
    throttle = AuthThrottle(counters, clock, ThrottleOptions(refresh=0))
    for _ in range(240):
        counters.error = None if counters.error else StoreUnavailableError("down")
        await throttle.refusal("192.0.2.1", "ehr")
        clock.now += 1
    assert [line for line in words(told) if line[0] == "cannot be counted"] == [
        ("cannot be counted", "failed logins", None)
    ] * 4
    assert sum(line[2] or 0 for line in words(told)) >= 90, "what was not told at once is told in the next line's sum"


# --- rates ---


async def settled(limiter):
    await limiter.aclose()
    return limiter


async def test_a_rate_holds_in_one_worker():
    counters, clock = Counters(), Clock()
    limiter = RateLimiter(counters, clock, ThrottleOptions())
    sender = client(messages_per_minute=5, messages_per_hour=7)
    answers = []
    for _ in range(6):
        answers.append(limiter.admit(sender))
        await settled(limiter)
    assert answers == [None] * 5 + [RATE_EXCEEDED]
    clock.now += 60
    assert [limiter.admit(sender) for _ in range(3)] == [None, None, RATE_EXCEEDED], "the hour's limit"
    await settled(limiter)


async def test_a_rate_is_passed_by_no_more_than_the_written_bound():
    counters, clock = Counters(), Clock()
    options = ThrottleOptions(share=0.1, refresh=3600)
    workers = [RateLimiter(counters, clock, options) for _ in range(4)]
    sender = client(messages_per_minute=100)
    admitted = 0
    for number in range(400):
        worker = workers[number % 4]
        admitted += worker.admit(sender) is None
        await settled(worker)
    assert 100 <= admitted <= 100 + 3 * 10
    assert counters.calls < 100, "not a write a message"


async def without_the_store():
    """A limiter that has found out that nothing can be counted."""
    counters, clock = Counters(), Clock()
    limiter = RateLimiter(counters, clock, ThrottleOptions())
    sender = client(messages_per_minute=100)
    counters.error = StoreUnavailableError("down")
    limiter.admit(sender)
    return counters, clock, await settled(limiter), sender


async def test_rates_that_cannot_be_counted_slow_the_client_down_until_they_can():
    counters, clock, limiter, sender = await without_the_store()
    assert limiter.admit(sender) == RATE_UNKNOWN
    await settled(limiter)
    counters.error = None
    clock.now += 2
    limiter.admit(sender)
    await settled(limiter)
    assert limiter.admit(sender) is None
    await asyncio.sleep(0)
    await settled(limiter)


async def test_an_outage_opens_nothing_when_a_minute_begins():
    counters, clock, limiter, sender = await without_the_store()
    clock.now += 60
    assert limiter.admit(sender) == RATE_UNKNOWN
    counters.error = None
    await settled(limiter)
    clock.now += 2
    limiter.admit(sender)
    await settled(limiter)
    assert limiter.admit(sender) is None
    await settled(limiter)


async def test_a_rate_that_cannot_be_counted_is_told_once(told):
    counters, clock = Counters(), Clock()
    limiter = RateLimiter(counters, clock, ThrottleOptions())
    counters.error = StoreUnavailableError("down")
    for number in range(50):
        limiter.admit(client(name=f"c{number % 5}", messages_per_minute=100, messages_per_hour=1000))
        await settled(limiter)
        clock.now += 2
    assert words(told) == [("cannot be counted", "messages of clients", None)]


async def test_a_client_without_limits_costs_nothing():
    counters = Counters()
    limiter = RateLimiter(counters, Clock(), ThrottleOptions())
    assert limiter.admit(client()) is None
    assert counters.calls == 0
