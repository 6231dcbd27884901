"""A listener on loopback with stand-ins for the rooms behind it."""

import asyncio
import hashlib
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network

from relay.core.address import Address
from relay.core.reply import Reply
from relay.intake.clients import Client, ClientDirectory
from relay.intake.limits import ByteBudget, ConnectionCount, ConnectionLimits
from relay.intake.listener import Listener, ListenerOptions, Rooms
from relay.intake.throttle import AuthThrottle, RateLimiter, ThrottleOptions
from relay.smtp.server_limits import SessionLimits

SECRET = "correct horse"
HOSTNAME = "relay.example"


def client(**changes):
    """A client that may send as ``clinic.example`` and below ``lab.example``."""
    base = Client(
        name="ehr",
        tenant="clinic",
        secret_sha256=hashlib.sha256(SECRET.encode()).hexdigest(),
        sender_domains=("clinic.example", "*.lab.example"),
        senders=frozenset({Address.parse("Nurse@Hospital.example")}),
    )
    return replace(base, **changes)


class Tally:
    """Metrics that can be looked at."""

    def __init__(self):
        self.counts = Counter()
        self.labelled = Counter()

    def count(self, name, labels=None, amount=1):
        self.counts[name] += amount
        self.labelled[name, tuple(sorted((labels or {}).items()))] += amount

    def observe(self, name, value, labels=None):
        self.counts[name] += 1

    def set(self, name, value, labels=None):
        self.counts[name] = value


class Counters:
    """The counters of a store; ``error``, when set, is raised instead."""

    def __init__(self):
        self.sums = Counter()
        self.calls = 0
        self.error = None

    async def count(self, counter, *, window, now, add=1):
        self.calls += 1
        if self.error is not None:
            raise self.error
        key = counter, int(now // window)
        self.sums[key] += add
        return self.sums[key]


class Taker:
    """An acceptor that remembers what it took. ``gate``, when set, holds every answer back until it is set."""

    def __init__(self, reply=None):
        self.taken = []
        self.reply = reply or Reply.of(250, "2.0.0", "Ok: queued as TEST")
        self.gate = None
        self.arrived = asyncio.Event()

    async def __call__(self, session, envelope, content, *, client=None):
        self.taken.append((session, envelope, content, client))
        self.arrived.set()
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


def rooms(accept, **changes):
    counters = changes.pop("counters", None) or Counters()
    options = changes.pop("throttle_options", ThrottleOptions())
    clock = changes.pop("clock", time.time)
    base = {
        "accept": accept,
        "throttle": AuthThrottle(counters, clock, options),
        "rates": RateLimiter(counters, clock, options),
        "budget": ByteBudget(64 << 20),
        "connections": ConnectionCount(ConnectionLimits(total=100, per_address=None)),
        "metrics": Tally(),
        "clock": clock,
    }
    return Rooms(**{**base, **changes})


def options(**changes):
    """Trusts loopback as the client ``ehr`` unless AUTH is asked for."""
    limits = changes.pop("limits", SessionLimits(hostname=HOSTNAME))
    base = {
        "name": "test",
        "address": "127.0.0.1",
        "port": 0,
        "limits": limits,
        "trusted": () if limits.auth else ((ip_network("127.0.0.0/8"), "ehr"),),
    }
    return ListenerOptions(**{**base, **changes})


@asynccontextmanager
async def listening(listener_options=None, accept=None, *, clients=None, tls=None, shared=None):
    accept = accept or Taker()
    shared = shared or rooms(accept)
    listener = Listener(listener_options or options(), shared, ClientDirectory(clients or [client()]), tls)
    await listener.start()
    try:
        yield listener
    finally:
        await listener.drain(5)
        await shared.rates.aclose()
