"""Keeps what mail servers can do in the store, and raises the alarm when one suddenly can less."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

import structlog

from relay.core.change import AuditEvent
from relay.core.errors import StoreError
from relay.core.ports import Knowledge, Known, Metrics
from relay.trust.capability import Capability, Learnt, Observation, learn

log = structlog.get_logger("capability")

KIND: Final = "capability"
_AT_HAND: Final = 20_000
_IN_FLIGHT: Final = 256
"""Observations being worked on; above it further ones are left out: the next meeting tells the same."""
_TRIES: Final = 8
"""How often an observation is put to what is known while others write: each time at least one of them got through."""


class Capabilities:
    """What servers can do. :meth:`saw` never waits: connecting must not."""

    def __init__(self, knowledge: Knowledge, *, metrics: Metrics | None = None) -> None:
        self._knowledge = knowledge
        self._metrics = metrics
        self._at_hand: OrderedDict[str, Capability] = OrderedDict()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def saw(self, seen: Observation) -> None:
        """Take an observation; what it leads to is worked out beside."""
        name = _name(seen.domain, seen.proof.host)
        known = self._at_hand.get(name)
        if known is not None and not learn(known, seen).write:
            return  # the usual case: nothing new, and nothing to wait for
        if name not in self._tasks and len(self._tasks) < _IN_FLIGHT:
            task = asyncio.get_running_loop().create_task(self._work(name, seen))
            self._tasks[name] = task
            task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def settle(self) -> None:
        """Wait until all that was seen is worked out."""
        while self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    async def known(self, domains: frozenset[str] = frozenset()) -> AsyncIterator[Capability]:
        """What is known, of these domains or of all, by name, read in pages.

        Raises:
            StoreError: it cannot be read now.
        """
        after = ""
        while page := await self._knowledge.all_known(KIND, after=after):
            after = page[-1].name
            for one in page:
                capability = _decoded(one)
                if capability is not None and (not domains or capability.domain in domains):
                    yield capability

    async def _work(self, name: str, seen: Observation) -> None:
        try:
            for _ in range(_TRIES):
                learnt = await self._learn(name, seen)
                if learnt is not None:
                    self._remember(name, learnt.now)
                    self._raise(learnt)
                    return
            error = "others write it down again and again"
        except StoreError as fault:
            error = str(fault)
        log.warning("what a server can do was not written down", host=seen.proof.host, error=error)

    async def _learn(self, name: str, seen: Observation) -> Learnt | None:
        """What the observation leads to; ``None``: another process wrote of the same server meanwhile.

        From the store, not from memory, and in the place of what it led on from alone: of all that see a server fall,
        one raises the alarm; and that it is raised is kept with it, or neither.
        """
        stored = await self._knowledge.known(KIND, name)
        learnt = learn(_decoded(stored) if stored is not None else None, seen)
        now = learnt.now
        fresh = Known(kind=KIND, name=name, value=now.encode(), until=now.until)
        events = (AuditEvent(kind="alert", at=now.seen_at, facts=_alarm(now)),) if learnt.fell else ()
        return learnt if not learnt.write or await self._knowledge.learn(fresh, over=stored, events=events) else None

    def _remember(self, name: str, capability: Capability) -> None:
        self._at_hand[name] = capability
        self._at_hand.move_to_end(name)
        while len(self._at_hand) > _AT_HAND:
            self._at_hand.popitem(last=False)

    def _raise(self, learnt: Learnt) -> None:
        now = learnt.now
        if learnt.rose:
            log.info("a server can what it could before", **_facts(now))
        if not learnt.fell:
            return
        if self._metrics is not None:
            self._metrics.count("postern_alerts_total", {"kind": "tls-downgrade"})
            self._metrics.count("postern_tls_downgrades_total", {"recipient_domain": now.domain})
        log.error("alert", **_alarm(now))


def _facts(now: Capability) -> dict[str, str]:
    return {"domain": now.domain, "host": now.host, "best": now.best, "level": now.level, "why": now.failure}


def _alarm(now: Capability) -> dict[str, str]:
    return {"alert": "tls-downgrade", **_facts(now)}


def _name(domain: str, host: str) -> str:
    return f"{domain}/{host}"


def _decoded(known: Known) -> Capability | None:
    try:
        return Capability.decode(known.value)
    except ValueError as error:
        log.error("what was remembered of a server is damaged", name=known.name, error=str(error))
        return None
