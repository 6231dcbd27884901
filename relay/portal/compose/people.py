"""Whom an answer goes to: the sender, whom To and Cc disclose, and whom a reader types."""

import re
from collections.abc import Iterable
from typing import Final

from relay.core.address import Address
from relay.core.errors import AddressError
from relay.core.portal import Deposit
from relay.mail.words import mailboxes

_SEPARATORS: Final = re.compile(r"[,;\s]+")
_MAX_OTHERS: Final = 50


def sender(deposit: Deposit, reply_to: str) -> Address | None:
    """Who gets a reply (RFC 5322 section 3.6.2): Reply-To, else From, else the envelope's sender; ``None``: nobody."""
    for value in (reply_to, deposit.origin_from):
        address = next((_address(text) for _, text in mailboxes([value])), None)
        if address is not None:
            return address
    return deposit.sender.address


def others(deposit: Deposit, reply_to: str = "") -> tuple[Address, ...]:
    """Whom To and Cc disclose beside the reader and the sender, each once. A Bcc is in neither, and stays hidden."""
    first = sender(deposit, reply_to)
    seen = {deposit.mailbox.key} | ({first.key} if first else set())
    found = []
    for _, text in mailboxes([*deposit.origin_to, *deposit.origin_cc])[: 4 * _MAX_OTHERS]:
        address = _address(text)
        if address is not None and address.key not in seen:
            seen.add(address.key)
            found.append(address)
    return tuple(found[:_MAX_OTHERS])


def typed(text: str, most: int) -> tuple[tuple[Address, ...], str]:
    """The addresses that a reader typed, and the first word that is none; empty when all are good.

    Args:
        text: with commas, semicolons or white space between them.
        most: one more than these are read, so that too many can be told.
    """
    found: dict[str, Address] = {}
    for word in _SEPARATORS.split(text.strip()):
        if not word or len(found) > most:
            continue
        address = _address(word)
        if address is None or "." not in address.domain:
            return (), word[:254]
        found[address.key] = address
    return tuple(found.values()), ""


def shown(addresses: Iterable[Address]) -> str:
    """Addresses for people."""
    return ", ".join(str(address) for address in addresses)


def _address(text: str) -> Address | None:
    try:
        return Address.parse(text.strip())
    except AddressError:
        return None
