"""The conditions that look at facts. Each builder returns closures; what it refuses it raises as ``ValueError``."""

import ipaddress
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Final

import re2

from relay.core.address import normalise_domain
from relay.core.envelope import Attachment
from relay.core.phi import FindingGroup, Phi
from relay.policy.copy import Copy, Shared
from relay.policy.lists import CompiledList, domain_key, mailbox_key
from relay.policy.schema import AttachmentCondition, FindingCondition, HeaderCondition, SizeCondition

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MAX_PATTERN: Final = 1000
_PROGRAM_MEMORY: Final = 4 * 1024 * 1024


def pattern(text: str, *, fold: bool = False) -> Callable[[str], bool]:
    """A search by RE2, whose time is linear in the text.

    Raises:
        ValueError: RE2 cannot compile it, or it is over-long.
    """
    if len(text) > _MAX_PATTERN:
        raise ValueError(f"a regular expression of more than {_MAX_PATTERN} characters")
    options = re2.Options()
    options.case_sensitive = not fold
    options.max_mem = _PROGRAM_MEMORY
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        cause = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else error
        around = "; RE2 has no lookaround: combine two conditions by all and not" if "(?" in str(cause) else ""
        raise ValueError(f"not a regular expression of RE2: {cause}{around}") from error
    search = compiled.search
    return lambda value: search(value) is not None


def glob(text: str) -> Callable[[str], bool]:
    """A whole match with ``*`` and ``?``, in linear time; case does not matter."""
    inner = "".join({"*": ".*", "?": "."}.get(letter) or re2.escape(letter) for letter in text)
    return pattern(rf"(?s)\A{inner}\z", fold=True)


def tag(text: str) -> Callable[[Shared], bool]:
    """Whether a tag stands in the subject; case does not matter, and a tag of letters matches whole words only."""
    folded = text.casefold()
    if not folded[0].isalnum() and not folded[-1].isalnum():
        return lambda shared: folded in shared.folded_subject
    left = r"(?:^|[^\pL\pN])" if folded[0].isalnum() else ""
    right = r"(?:$|[^\pL\pN])" if folded[-1].isalnum() else ""
    search = pattern(f"{left}{re2.escape(folded)}{right}")
    return lambda shared: search(shared.folded_subject)


def addresses(side: str, texts: tuple[str, ...]) -> Callable[[Copy], bool]:
    """Whether the mailbox is one of some.

    Raises:
        AddressError: one of them is no address.
    """
    keys = frozenset(mailbox_key(text) for text in texts)

    def check(copy: Copy) -> bool:
        mailbox = copy.mailbox(side)
        return mailbox is not None and mailbox.key in keys

    return check


def in_lists(side: str, lists: tuple[CompiledList, ...]) -> Callable[[Copy], bool]:
    """Whether the mailbox or its domain is in a list."""

    def check(copy: Copy) -> bool:
        mailbox = copy.mailbox(side)
        if mailbox is None:
            return False
        shared, key, domain = copy.shared, mailbox.key, mailbox.domain
        for one in lists:  # noqa: SIM110 (any() with a generator costs twice as much on the hot path)
            if one.has_address(key, domain, shared):
                return True
        return False

    return check


def domains(
    side: str, patterns: tuple[str, ...], lists: tuple[CompiledList, ...], near: tuple[CompiledList, ...]
) -> Callable[[Copy], bool]:
    """Whether the mailbox's domain is one of the patterns, in a list, or near one.

    Raises:
        AddressError: a pattern is no domain.
    """
    exact = frozenset(domain_key(text) for text in patterns if not text.startswith("*."))
    below = tuple(f".{normalise_domain(text[2:])}" for text in patterns if text.startswith("*."))

    def check(copy: Copy) -> bool:
        mailbox = copy.mailbox(side)
        if mailbox is None:
            return False
        domain, shared = mailbox.domain, copy.shared
        if domain in exact or (below and domain.endswith(below)):
            return True
        for one in lists:
            if one.has_domain(domain, shared):
                return True
        for one in near:  # noqa: SIM110 (any() with a generator costs twice as much on the hot path)
            if one.near(domain):
                return True
        return False

    return check


def networks(texts: tuple[str, ...]) -> Callable[[Shared], bool]:
    """Whether the client's address lies in a network; an unknown address lies in none.

    Raises:
        ValueError: one of them is no network.
    """
    wanted = tuple(_network(text) for text in texts)

    def check(shared: Shared) -> bool:
        if not shared.facts.session.network:
            return False
        address = ipaddress.ip_address(shared.facts.session.network)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in wanted)

    return check


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        try:
            whole = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"`{text[:60]}` is not an IP address or network in CIDR form") from error
        raise ValueError(f"`{text}` is an address inside a network; the network is {whole}") from error


def header(condition: HeaderCondition) -> Callable[[Shared], bool]:
    """Whether a field of that name has a value that meets all the keys.

    Raises:
        ValueError: a pattern that RE2 cannot compile.
    """
    name = condition.name.lower()
    searches = tuple(pattern(text) for text in condition.matches or ())
    texts = tuple(text.casefold() for text in condition.contains or ())

    def fits(value: str) -> bool:
        if searches and not any(search(value) for search in searches):
            return False
        folded = value.casefold() if texts else ""
        return not texts or any(text in folded for text in texts)

    def check(shared: Shared) -> bool:
        values = shared.headers.get(name, ())
        if condition.present is not None and bool(values) is not condition.present:
            return False
        return not (searches or texts) or any(fits(value) for value in values)

    return check


def within(size: int, condition: SizeCondition) -> bool:
    """Whether a size lies between the bounds, both exclusive."""
    return (condition.over is None or size > condition.over) and (condition.under is None or size < condition.under)


def finding(condition: FindingCondition) -> Callable[[Shared], bool]:
    """Whether there are enough findings; when the scan could not list all, what is asked for is taken to be there."""
    count, wanted = counter(condition), condition.count
    return lambda shared: shared.facts.verdict.truncated or count(shared, wanted) >= wanted


def counter(condition: FindingCondition) -> Callable[[Shared, int], int]:
    """Counts the findings that meet kind and sensitive, each once, up to a limit."""
    kinds = frozenset(kind.lower() for kind in condition.kind or ())
    groups = frozenset(group for group in FindingGroup if group.value in kinds)
    sensitive = frozenset(kind.lower() for kind in condition.sensitive or ())
    any_sensitive = "any" in sensitive

    def count(shared: Shared, limit: int) -> int:
        counted = 0
        for found in shared.facts.verdict.findings:
            if kinds and found.kind not in kinds and found.group not in groups:
                continue
            if sensitive and found.sensitive not in sensitive and not (any_sensitive and found.sensitive):
                continue
            counted += 1 + found.more
            if counted >= limit:
                break
        return counted

    return count


def attachment(condition: AttachmentCondition) -> Callable[[Shared], bool]:
    """Whether one attachment meets all the keys.

    ``unreadable: true`` alone also holds when the scan could not read some part, or ran out of time.
    """
    types = tuple(glob(text) for text in condition.type or ())
    names = tuple(glob(text) for text in condition.name or ())

    def fits(one: Attachment) -> bool:
        if condition.unreadable is not None and bool(one.unreadable) is not condition.unreadable:
            return False
        if types and not any(match(one.type.lower()) for match in types):
            return False
        if names and not any(match(_plain(one.name)) for match in names):
            return False
        return condition.size is None or within(one.size, condition.size)

    alone = condition.unreadable is True and not types and not names and condition.size is None

    def check(shared: Shared) -> bool:
        if alone:
            return shared.unreadable
        return any(fits(one) for one in shared.facts.attachments)

    return check


def _plain(name: str) -> str:
    return name.encode("utf-8", "replace").decode("utf-8")


def at_least(word: str, *, subject: bool) -> Callable[[Copy], bool]:
    """Whether the verdict is at least a level."""
    wanted = Phi[word.upper()]
    if subject:
        return lambda copy: copy.facts.verdict.subject_phi >= wanted
    return lambda copy: copy.facts.verdict.phi >= wanted


def when(days: tuple[str, ...] | None, hours: str | None, zone: tzinfo) -> Callable[[Shared], bool]:
    """Whether the message was received on those days and between those hours of a zone.

    Hours that go over midnight belong to the day on which they begin.

    Raises:
        ValueError: no minute lies between the hours.
    """
    wanted = frozenset(_DAYS.index(day) for day in days or _DAYS)
    start, end = (_minutes(part) for part in hours.split("-")) if hours else (0, 24 * 60)
    if start == end:
        raise ValueError("no time lies between these hours; for the whole day leave hours: out")

    def check(shared: Shared) -> bool:
        moment = datetime.fromtimestamp(shared.facts.received_at, zone)
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if start <= end:
            return day in wanted and start <= minute < end
        return (minute >= start and day in wanted) or (minute < end and (day - 1) % 7 in wanted)

    return check


def _minutes(clock: str) -> int:
    hour, _, minute = clock.partition(":")
    return int(hour) * 60 + int(minute)
