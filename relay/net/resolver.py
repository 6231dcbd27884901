"""DNS answers with their meaning: found, no such data, no such name, or no answer at all.

``dnspython`` asks; the cache is ours: bounded in size and time, negative answers kept for as long as their SOA says
(RFC 2308 section 5), one question on the way at a time for each name and type. The AD bit is kept for those who trust
the path to their resolver (RFC 6840 section 5.7).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import dns.rrset

from relay.core.errors import Problem, ProblemsError
from relay.core.ports import Metrics

_MAX_CHAIN: Final = 8  # CNAMEs followed when the server does not follow them itself


class Found(Enum):
    """What an answer means."""

    FOUND = "found"
    NODATA = "nodata"
    """The name exists and has no record of this type."""
    NXDOMAIN = "nxdomain"
    """The name does not exist, and nothing below it (RFC 8020)."""
    FAILED = "failed"
    """SERVFAIL, refused, bogus, malformed or no answer in time: nothing is known, so nothing may be concluded."""


_RESULTS: Final = {Found.FOUND: "ok", Found.NODATA: "empty", Found.NXDOMAIN: "nxdomain", Found.FAILED: "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    Attributes:
        found: what it means.
        records: dnspython rdata, in the order of the answer.
        secure: the AD bit, where the options say that it is to be believed.
        ttl: seconds it may be kept, bounded by the options.
        name: the canonical name at the end of CNAMEs, without the final dot.
        detail: one clause for operators when it failed.
    """

    found: Found
    records: tuple[Any, ...] = ()
    secure: bool = False
    ttl: float = 0.0
    name: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverOptions:
    """How to ask.

    Attributes:
        nameservers: IP addresses; empty: those of ``/etc/resolv.conf``.
        port: of the name servers.
        timeout: seconds one server is waited for.
        lifetime: seconds one question may take in all.
        cache_size: answers kept.
        min_ttl, max_ttl: seconds, bounds on how long an answer is kept.
        max_negative_ttl: seconds, bound on NXDOMAIN and NODATA.
        validating: the name servers validate DNSSEC and the way to them is safe: their AD bit is believed.
        failure_ttl: seconds a failure is remembered, so that a dead resolver is not asked by every copy
            (RFC 9520 section 3.2: at least 1, at most 300).
    """

    nameservers: tuple[str, ...] = ()
    port: int = 53
    timeout: float = 3.0
    lifetime: float = 10.0
    cache_size: int = 20_000
    min_ttl: float = 5.0
    max_ttl: float = 86_400.0
    max_negative_ttl: float = 900.0
    failure_ttl: float = 5.0
    validating: bool = False


class Resolver:
    """Asks and remembers. One a process; it belongs to the event loop it is first used on."""

    def __init__(
        self,
        options: ResolverOptions | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        metrics: Metrics | None = None,
    ) -> None:
        """Make the resolver.

        Raises:
            ProblemsError: no name server given and none in ``/etc/resolv.conf``.
            ValueError: a name server that is not an IP address.
        """
        self._options = options or ResolverOptions()
        self._monotonic = monotonic
        self._metrics = metrics
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._asking: dict[tuple[str, str], asyncio.Task[Answer]] = {}
        try:
            stub = dns.asyncresolver.Resolver(configure=not self._options.nameservers)
        except dns.resolver.NoResolverConfiguration as error:
            what, hint = "no name server is set up", "add one there, or set dns.nameservers"
            raise ProblemsError(Problem(where="/etc/resolv.conf", what=what, hint=hint)) from error
        if self._options.nameservers:
            stub.nameservers = list(self._options.nameservers)
        stub.port = self._options.port
        stub.timeout = self._options.timeout
        stub.lifetime = self._options.lifetime
        stub.flags = dns.flags.RD | dns.flags.AD
        stub.use_edns(0, 0, 1232)
        self._stub = stub

    async def lookup(self, name: str, rdtype: str) -> Answer:
        """Ask for records of a type (``MX``, ``A``, ``TXT``) at an absolute name. Never raises for what DNS does."""
        key = (name.rstrip(".").lower(), rdtype)
        kept = self._cache.get(key)
        if kept is not None and kept[0] > self._monotonic():
            self._cache.move_to_end(key)
            self._count("cached")
            return kept[1]
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask_and_keep(key))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)  # one who gives up must not take the answer from the others

    def forget(self) -> None:
        """Empty the cache (reload)."""
        self._cache.clear()

    async def close(self) -> None:
        """Give up questions on the way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_and_keep(self, key: tuple[str, str]) -> Answer:
        begun = self._monotonic()
        answer = await self._ask(*key)
        self._count(_RESULTS[answer.found])
        if self._metrics is not None:
            self._metrics.observe("postern_dns_seconds", self._monotonic() - begun)
        self._cache[key] = (self._monotonic() + answer.ttl, answer)
        self._cache.move_to_end(key)
        while len(self._cache) > self._options.cache_size:
            self._cache.popitem(last=False)
        return answer

    async def _ask(self, name: str, rdtype: str) -> Answer:
        """Ask, following CNAMEs that the server left to us."""
        try:
            current = dns.name.from_text(name or ".")
        except dns.exception.DNSException:
            return self._failed("not a name that DNS can hold")
        secure, ttl = self._options.validating, self._options.max_ttl
        for _ in range(_MAX_CHAIN):
            try:
                reply = await self._stub.resolve(current, rdtype, raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN as error:
                return self._negative(Found.NXDOMAIN, list(error.kwargs.get("responses", {}).values()), secure=secure)
            except (dns.exception.DNSException, OSError, EOFError) as error:
                return self._failed(_detail(error))
            secure = secure and bool(reply.response.flags & dns.flags.AD)
            if reply.rrset is not None:
                return self._positive(reply, min(ttl, float(reply.chaining_result.minimum_ttl)), secure=secure)
            if reply.canonical_name == current:
                return self._negative(Found.NODATA, [reply.response], secure=secure)
            current = reply.canonical_name
            ttl = min(ttl, float(reply.chaining_result.minimum_ttl))
            if _has_soa(reply.response):
                return self._negative(Found.NODATA, [reply.response], secure=secure)
        return self._failed("CNAMEs lead too far")

    def _count(self, result: str) -> None:
        if self._metrics is not None:
            self._metrics.count("postern_dns_lookups_total", {"result": result})

    def _positive(self, reply: dns.resolver.Answer, ttl: float, *, secure: bool) -> Answer:
        return Answer(
            found=Found.FOUND,
            records=tuple(reply),
            secure=secure,
            ttl=max(self._options.min_ttl, min(ttl, self._options.max_ttl)),
            name=reply.canonical_name.to_text(omit_final_dot=True).lower(),
        )

    def _negative(self, found: Found, responses: Sequence[dns.message.Message], *, secure: bool) -> Answer:
        """RFC 2308 section 5: kept for the lesser of the SOA's TTL and its MINIMUM; without an SOA, briefly."""
        ttl = self._options.min_ttl
        for response in responses:
            soa = _has_soa(response)
            if soa is not None:
                ttl = min(float(soa.ttl), float(soa[0].minimum))
        secure = secure and all(bool(response.flags & dns.flags.AD) for response in responses)
        return Answer(
            found=found, secure=secure, ttl=max(self._options.min_ttl, min(ttl, self._options.max_negative_ttl))
        )

    def _failed(self, detail: str) -> Answer:
        return Answer(found=Found.FAILED, ttl=self._options.failure_ttl, detail=detail)


def _has_soa(response: dns.message.Message) -> dns.rrset.RRset | None:
    return next((rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA), None)


def _detail(error: BaseException) -> str:
    if isinstance(error, dns.exception.Timeout):
        return "the name servers did not answer in time"
    if isinstance(error, dns.resolver.NoNameservers):
        return "the name servers answered SERVFAIL or refused"
    return f"the DNS look-up failed ({type(error).__name__})"
