"""What a worker does for mail that comes back: signed senders on what leaves, what is remembered, whom to leave out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from relay.core.address import Address
from relay.core.change import Remember
from relay.core.entry import Claimed, RecipientState
from relay.core.envelope import Origin, Recipient
from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.reply import Reply
from relay.delivery.dispatched import memo_of
from relay.delivery.routing import RouteTable
from relay.protect.returnpath import ReturnPaths

_BULK: Final = "bulk"

Suppressed: TypeAlias = Callable[[Address, str, str], Reply | None]
"""Why a recipient gets no mail of a tenant and stream; ``None`` when it does. Never waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnOptions:
    """Where what we send comes back to.

    Attributes:
        domain: the return domain; empty: the sender stays as the client gave it.
        by_sender: sending domain to the return domain it has for itself; empty: none.
        lifetime: seconds for which a copy that left is remembered.
    """

    domain: str = ""
    by_sender: Mapping[str, str] = field(default_factory=dict)
    lifetime: float = 14 * 86_400.0

    @property
    def domains(self) -> frozenset[str]:
        """All return domains."""
        return frozenset({self.domain, *self.by_sender.values()} - {""})


def _everybody(_address: Address, _tenant: str, _stream: str) -> Reply | None:
    return None


class Returning:
    """The senders that copies leave under, and the memos of what left.

    Args:
        options: the return domains.
        paths: makes signed addresses; ``None``: the sender stays as the client gave it.
        routes: mail over an internal route keeps its sender: it has not left the house.
        suppressed: says who gets no mail.
    """

    def __init__(
        self,
        options: ReturnOptions | None = None,
        paths: ReturnPaths | None = None,
        routes: RouteTable | None = None,
        suppressed: Suppressed = _everybody,
    ) -> None:
        self._options = options or ReturnOptions()
        self._ours = self._options.domains
        self._paths = paths
        self._routes = routes or RouteTable(())
        self._suppressed = suppressed

    def senders(self, claimed: Claimed, now: float) -> list[tuple[str, tuple[RecipientState, ...]]]:
        """The transactions that a copy is sent in: the reverse-path of each, and its recipients.

        One for all recipients; for bulk mail one each, so that each has a return address of its own.
        """
        states = claimed.entry.recipients
        domain = self._domain(claimed)
        if not domain or self._paths is None:
            return [(str(claimed.message.envelope.reverse_path), states)]
        groups = [(state,) for state in states] if claimed.message.stream == _BULK else [states]
        return [(self._path(claimed, group, domain, now), group) for group in groups]

    def memo(self, claimed: Claimed, delivered: Collection[int], host: str, now: float) -> Remember | None:
        """What to remember of recipients that were delivered; ``None`` where nothing can come back to us."""
        if not delivered or not self._domain(claimed):
            return None
        return memo_of(claimed.message, claimed.entry, delivered, host=host, now=now, lifetime=self._options.lifetime)

    def left_out(self, claimed: Claimed) -> tuple[RecipientResult, ...]:
        """The end of recipients that were suppressed after the message was taken: they are sent nothing."""
        message = claimed.message
        if message.origin is not Origin.CLIENT:
            return ()
        found = []
        for state in claimed.entry.recipients:
            reply = self._suppressed(state.recipient.address, message.session.tenant, message.stream)
            if reply is not None:
                failure = Failure(
                    trouble=Trouble.SUPPRESSED, stage=Stage.PLAN, detail=reply.text, status=reply.enhanced
                )
                found.append(RecipientResult(number=state.number, failure=failure))
        return tuple(found)

    def _domain(self, claimed: Claimed) -> str:
        message, options = claimed.message, self._options
        sender = message.envelope.reverse_path.domain
        if message.origin is not Origin.CLIENT or not sender or self._paths is None or sender in self._ours:
            return ""
        route = self._routes.route_of(claimed.entry.destination)
        return "" if route is not None and route.internal else options.by_sender.get(sender, options.domain)

    def _path(self, claimed: Claimed, states: Sequence[RecipientState], domain: str, now: float) -> str:
        if self._paths is None:
            return str(claimed.message.envelope.reverse_path)
        number = states[0].number if len(states) == 1 else None
        made = self._paths.make(claimed.entry.id, number, domain, now)
        return str(made or claimed.message.envelope.reverse_path)


def asked(recipient: Recipient) -> Recipient:
    """What the next hop is asked of notices that come to a return address of ours: failures always.

    They are counted and may suppress; the sender is told of those that NOTIFY asks for, by us. Whoever puts an address
    of their own in the sender's place says what comes back there (RFC 3461 section 5.2.7.1 c).
    """
    if not recipient.notify or "FAILURE" in recipient.notify:
        return recipient
    return replace(recipient, notify=recipient.notify - {"NEVER"} | {"FAILURE"})


def without(claimed: Claimed, results: Collection[RecipientResult]) -> Claimed:
    """The copy without recipients that have a result already."""
    if not results:
        return claimed
    numbers = {result.number for result in results}
    left = tuple(state for state in claimed.entry.recipients if state.number not in numbers)
    return replace(claimed, entry=replace(claimed.entry, recipients=left))
