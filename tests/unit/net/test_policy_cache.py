"""Which policy of a domain is in force: every case of what is at hand, in the store, announced and served."""

import itertools

import pytest

from relay.core.ports import Known
from relay.net.fetch import FetchError
from relay.net.mta_sts import KIND, PolicyCache, PolicyCacheOptions
from relay.net.resolver import Answer, Found
from relay.trust.mta_sts import KeptPolicy, Mode, Policy
from relay.trust.tlsrpt import ResultType
from tests.support.intake import Tally
from tests.support.queue import ManualClock

NOW = 1_700_000_000.0
GOOD, LIFE = "good.example", 1000
KNOWN, SERVED = "mx.known.example", "mx.served.example"


class Text:
    def __init__(self, text):
        self.strings = (text.encode(),)


class Outside:
    """The domain's TXT record, its policy host, and the store that all workers share."""

    def __init__(self, *, announced="", served=True):
        self.announced, self.served, self.fetches, self.known_now = announced, served, [], {}

    async def lookup(self, name, kind):
        assert (name.partition(".")[0], kind) == ("_mta-sts", "TXT")
        if not self.announced:
            return Answer(found=Found.NODATA)
        return Answer(found=Found.FOUND, records=(Text(f"v=STSv1; id={self.announced};"),))

    async def get(self, host, path, *, media_type):
        assert (path, media_type) == ("/.well-known/mta-sts.txt", "text/plain")
        self.fetches.append(host)
        if not self.served:
            raise FetchError("certificate", "it does not verify")
        return a_policy(SERVED).text().encode()

    async def known(self, _kind, name):
        return self.known_now.get(name)

    async def learn(self, known):
        self.known_now[known.name] = known

    async def all_known(self, _kind, *, after=""):
        return [known for name, known in sorted(self.known_now.items()) if name > after]

    def keep(self, name, age, policy_id="1"):
        kept = KeptPolicy(policy=a_policy(KNOWN), id=policy_id, fetched_at=NOW - age)
        self.known_now[name] = Known(kind=KIND, name=name, value=kept.encode(), until=kept.until)


def a_policy(mx):
    return Policy(mode=Mode.ENFORCE, max_age=LIFE, mx=(mx,))


def a_cache(outside, *, clock=None, monotonic=lambda: 0.0, metrics=None, **options):
    return PolicyCache(
        outside, outside, outside, clock or ManualClock(NOW), PolicyCacheOptions(**options), metrics=metrics,
        monotonic=monotonic,
    )  # fmt: skip


async def in_force(cache, domain=GOOD):
    policy = await cache.policy(domain)
    return policy.mx[0] if policy is not None else None


@pytest.mark.parametrize("at_hand", [False, True])
@pytest.mark.parametrize(
    ("age", "announced", "served"),
    list(itertools.product((None, 0, LIFE - 1, LIFE, LIFE + 1), ("", "1", "2"), (False, True))),
)
async def test_the_policy_in_force_of_every_combination(at_hand, age, announced, served):
    outside, clock = Outside(announced=announced, served=served), ManualClock(NOW)
    cache = a_cache(outside, clock=clock)
    if age is not None:
        outside.keep(GOOD, age=0)
        if at_hand:
            outside.announced = "1"
            assert await in_force(cache) == KNOWN
            outside.announced = announced
        clock.now = NOW + age
    lives = age is not None and age < LIFE
    is_wanted = bool(announced) and not (lives and announced == "1")
    expected = SERVED if is_wanted and served else KNOWN if lives else None
    assert await in_force(cache) == expected
    assert outside.fetches == ([f"mta-sts.{GOOD}"] if is_wanted else [])
    fault = cache.fault(GOOD)
    assert (fault is not None) is (is_wanted and not served)
    assert fault is None or fault.result is ResultType.STS_WEBPKI_INVALID


async def test_a_fault_is_forgotten_when_the_policy_is_had_and_when_none_is_announced():
    outside, now = Outside(announced="1", served=False), [0.0]
    cache = a_cache(outside, monotonic=lambda: now[0])
    await cache.policy(GOOD)
    assert cache.fault(GOOD) is not None
    outside.announced = ""
    await cache.policy(GOOD)
    assert cache.fault(GOOD) is None
    outside.announced = "2"
    await cache.policy(GOOD)
    assert cache.fault(GOOD) is not None
    outside.served, now[0] = True, 300.0
    assert await in_force(cache) == SERVED
    assert cache.fault(GOOD) is None


async def test_an_end_of_the_policy_in_the_store_ends_the_one_at_hand_too():
    outside, clock = Outside(announced="1"), ManualClock(NOW)
    cache = a_cache(outside, clock=clock)
    assert await in_force(cache) == SERVED
    outside.announced, clock.now = "", NOW + LIFE
    assert await in_force(cache) is None
    clock.now = NOW
    outside.known_now.clear()
    assert await in_force(cache) is None, "it was let go"


async def test_the_policies_at_hand_are_those_used_last_and_the_oldest_failure_is_tried_again():
    outside = Outside(announced="1")
    cache = a_cache(outside, memory=2)
    for domain in ("a.example", "b.example", "a.example", "c.example"):
        assert await in_force(cache, domain) == SERVED
    outside.known_now.clear()
    outside.announced = ""
    assert [await in_force(cache, f"{name}.example") for name in "abc"] == [SERVED, None, SERVED]
    outside.announced, outside.served = "2", False
    failing = a_cache(outside, memory=2, metrics=(metrics := Tally()))
    for domain in ("d.example", "e.example", "f.example", "e.example", "f.example", "d.example"):
        assert await in_force(failing, domain) is None
    assert metrics.counts == {"postern_mta_sts_fetches_total": 4}
    assert [failing.fault(f"{name}.example") is not None for name in "def"] == [True, False, True]


@pytest.mark.parametrize("announced", ["", "2"])
async def test_a_refresh_takes_the_stale_ones_alone_announced_or_not_and_counts_those_confirmed(announced):
    outside = Outside(announced=announced)
    for name, age in (("old.example", LIFE / 2), ("young.example", LIFE / 2 - 1), ("older.example", LIFE - 1)):
        outside.keep(name, age)
    outside.known_now["damaged.example"] = Known(kind=KIND, name="damaged.example", value=b"junk", until=NOW + 1)
    assert await a_cache(outside).refresh(pause=0) == 2
    assert outside.fetches == ["mta-sts.old.example", "mta-sts.older.example"]
    kept = KeptPolicy.decode(outside.known_now["old.example"].value)
    assert (kept.id, kept.fetched_at, kept.policy) == (announced or "1", NOW, a_policy(SERVED))
    assert outside.known_now["old.example"].until == NOW + LIFE
