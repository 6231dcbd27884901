"""Discovers, keeps and refreshes the MTA-STS policies of other domains (RFC 8461 sections 3 and 5).

A policy that is known stays in force until its time is over: neither a record that has gone nor a policy server that
is down ends it (section 5.1). What was learnt is in the store, for all workers and over restarts.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay.core.errors import StoreError
from relay.core.ports import Clock, Knowledge, Known, Metrics
from relay.net.fetch import FetchError, HttpsFetcher
from relay.net.resolver import Found, Resolver
from relay.trust.mta_sts import KeptPolicy, Mode, Policy, PolicyError, record_id
from relay.trust.sessions import Fault
from relay.trust.tlsrpt import ResultType

log = structlog.get_logger("mta_sts")

KIND: Final = "mta-sts"
_PATH: Final = "/.well-known/mta-sts.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCacheOptions:
    """How policies are kept.

    Attributes:
        retry: seconds before a policy that could not be fetched is asked for again under the same id (RFC 8461
            section 3.3: at least five minutes).
        refresh: seconds after which a policy is fetched anew ahead of need; half its ``max_age`` when that is less.
        memory: policies, and failures, that one process has at hand.
    """

    retry: float = 300.0
    refresh: float = 86_400.0
    memory: int = 10_000


class PolicyCache:
    """The policies of other domains. One a process; the store is what all share."""

    def __init__(
        self,
        resolver: Resolver,
        fetcher: HttpsFetcher,
        knowledge: Knowledge,
        clock: Clock,
        options: PolicyCacheOptions | None = None,
        *,
        metrics: Metrics | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resolver = resolver
        self._fetcher = fetcher
        self._knowledge = knowledge
        self._clock = clock
        self._options = options or PolicyCacheOptions()
        self._metrics = metrics
        self._monotonic = monotonic
        self._at_hand: OrderedDict[str, KeptPolicy] = OrderedDict()
        self._failed: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._faults: OrderedDict[str, Fault] = OrderedDict()
        self._fetching: dict[tuple[str, str], asyncio.Task[KeptPolicy | None]] = {}

    async def policy(self, domain: str) -> Policy | None:
        """The policy in force for a domain now; ``None`` when there is none, or its mode is ``none``.

        Raises:
            StoreError: what is known cannot be read, so nobody can tell whether there is one.
        """
        kept = await self._kept(domain)
        announced = await self._announced(domain)
        if announced and (kept is None or kept.id != announced):
            kept = await self._learn(domain, announced) or kept
        elif not announced:
            self._faults.pop(domain, None)
        return kept.policy if kept is not None and kept.policy.mode is not Mode.NONE else None

    def fault(self, domain: str) -> Fault | None:
        """Why the policy that a domain announces could not be had when it was last asked for; for reports alone."""
        return self._faults.get(domain)

    async def refresh(self, *, pause: float) -> int:
        """Fetch anew what is known and has not been confirmed for long; how many were.

        Args:
            pause: seconds between two fetches.

        Raises:
            StoreError: what is known cannot be read.
        """
        after, fetched = "", 0
        while page := await self._knowledge.all_known(KIND, after=after):
            after = page[-1].name
            for known in page:
                kept = _decoded(known)
                if kept is None or not self._is_stale(kept):
                    continue
                announced = await self._announced(known.name)
                now = await self._learn(known.name, announced or kept.id)
                fetched += now is not None and now.fetched_at > kept.fetched_at
                await asyncio.sleep(pause)
        return fetched

    async def close(self) -> None:
        """Give up fetches on the way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_stale(self, kept: KeptPolicy) -> bool:
        return self._clock() - kept.fetched_at >= min(self._options.refresh, kept.policy.max_age / 2)

    # --- what is known -----------------------------------------------------

    async def _kept(self, domain: str) -> KeptPolicy | None:
        kept = self._at_hand.get(domain)
        if kept is not None and kept.until > self._clock():
            self._at_hand.move_to_end(domain)
            return kept
        return await self._stored(domain)

    async def _stored(self, domain: str) -> KeptPolicy | None:
        known = await self._knowledge.known(KIND, domain)
        kept = _decoded(known) if known is not None else None
        if kept is None or kept.until <= self._clock():
            self._at_hand.pop(domain, None)
            return None
        self._remember(domain, kept)
        return kept

    def _remember(self, domain: str, kept: KeptPolicy) -> None:
        self._at_hand[domain] = kept
        self._at_hand.move_to_end(domain)
        while len(self._at_hand) > self._options.memory:
            self._at_hand.popitem(last=False)

    # --- discovery ---------------------------------------------------------

    async def _announced(self, domain: str) -> str:
        """The id in the domain's TXT record; empty when it announces none, or nobody can tell now."""
        answer = await self._resolver.lookup(f"_mta-sts.{domain}", "TXT")
        if answer.found is not Found.FOUND:
            return ""
        texts = [b"".join(record.strings).decode("ascii", "replace") for record in answer.records]
        return record_id(texts) or ""

    async def _learn(self, domain: str, announced: str) -> KeptPolicy | None:
        """Fetch the policy of this id, once for all who wait; ``None`` when it cannot be had now."""
        key = (domain, announced)
        if self._failed.get(key, 0.0) > self._monotonic():
            return None
        task = self._fetching.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch_and_keep(domain, announced))
            self._fetching[key] = task
            task.add_done_callback(lambda done: self._fetched(key, done))
        return await asyncio.shield(task)  # one who gives up must not take the policy from the others

    def _fetched(self, key: tuple[str, str], done: "asyncio.Task[KeptPolicy | None]") -> None:
        self._fetching.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has had it; nobody may be left to

    async def _fetch_and_keep(self, domain: str, announced: str) -> KeptPolicy | None:
        stored = await self._stored(domain)
        if stored is not None and stored.id == announced and not self._is_stale(stored):
            return stored  # another worker was quicker
        try:
            content = await self._fetcher.get(f"mta-sts.{domain}", _PATH, media_type="text/plain")
            policy = Policy.parse(content)
        except (FetchError, PolicyError) as error:
            self._note_failure(domain, announced, error, known=stored is not None)
            return stored if stored is not None and stored.id == announced else None
        kept = KeptPolicy(policy=policy, id=announced, fetched_at=self._clock())
        self._remember(domain, kept)
        self._faults.pop(domain, None)
        self._count("ok")
        try:
            await self._knowledge.learn(Known(kind=KIND, name=domain, value=kept.encode(), until=kept.until))
        except StoreError as error:
            log.warning("a policy is known to this process alone", domain=domain, error=str(error))
        return kept

    def _note_failure(self, domain: str, announced: str, error: FetchError | PolicyError, *, known: bool) -> None:
        self._failed[(domain, announced)] = self._monotonic() + self._options.retry
        self._failed.move_to_end((domain, announced))
        self._faults[domain] = Fault(result=_result(error), detail=str(error))
        self._faults.move_to_end(domain)
        for noted in (self._failed, self._faults):
            while len(noted) > self._options.memory:
                noted.popitem(last=False)
        self._count("failed")
        log.warning("a policy could not be fetched", domain=domain, why=str(error), the_known_one_stays=known)

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.count("postern_mta_sts_fetches_total", {"result": result})


def _result(error: FetchError | PolicyError) -> ResultType:
    """RFC 8460 section 4.3.2.2."""
    if isinstance(error, PolicyError):
        return ResultType.STS_POLICY_INVALID
    return ResultType.STS_WEBPKI_INVALID if error.kind == "certificate" else ResultType.STS_POLICY_FETCH_ERROR


def _decoded(known: Known) -> KeptPolicy | None:
    try:
        return KeptPolicy.decode(known.value)
    except PolicyError as error:
        log.error("a remembered policy is damaged; it is fetched anew", domain=known.name, error=str(error))
        return None
