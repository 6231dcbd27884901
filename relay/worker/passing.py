"""Passing on what came back: notices to senders about messages that have left already, and to the postmaster."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import structlog

from relay.core.address import Address
from relay.core.change import Change
from relay.core.envelope import Message, Origin
from relay.mail.dsn import DsnWriter, Report
from relay.mail.remark import replied_notice, unclear_notice, unmatched_notice
from relay.worker.notices import Notices

log = structlog.get_logger("notices")

_Write: TypeAlias = Callable[[], bytes]


class PassingOn:
    """Builds those notices as new queue entries.

    Never raises for what came back: a notice that cannot be written is logged, and nobody is told.

    Args:
        writer: the DSN's own settings.
        notices: keeps them.
        return_domains: senders there are ours: nothing is ever passed on to them, so that no notice runs in a circle.
    """

    def __init__(self, writer: DsnWriter, notices: Notices, return_domains: frozenset[str]) -> None:
        self._writer = writer
        self._notices = notices
        self._ours = return_domains

    def failed(self, message: Message, reports: Sequence[Report], *, now: float) -> tuple[Change, ...]:
        """Tell the sender that recipients will not get the message after all."""
        to = self._sender(message)
        wanted = [one for one in reports if one.recipient.wants("FAILURE")]
        if to is None or not wanted:
            return ()
        return self._keep(lambda: self._writer.failure(message, None, wanted, to=to, now=now), to, message, now)

    def delayed(self, message: Message, reports: Sequence[Report], *, now: float) -> tuple[Change, ...]:
        """Tell the sender that a server further on has the message and is still trying."""
        to = self._sender(message)
        wanted = [one for one in reports if one.recipient.wants("DELAY")]
        if to is None or not wanted:
            return ()
        return self._keep(lambda: self._writer.delay(message, None, wanted, to=to, now=now), to, message, now)

    def delivered(self, message: Message, reports: Sequence[Report], *, now: float) -> tuple[Change, ...]:
        """Tell the sender that recipients have the message, if that was asked for."""
        to = self._sender(message)
        wanted = [one for one in reports if one.recipient.wants("SUCCESS")]
        if to is None or not wanted:
            return ()
        return self._keep(lambda: self._writer.success(message, wanted, to=to, now=now), to, message, now)

    def replied(self, message: Message, recipients: Sequence[Address], *, now: float) -> tuple[Change, ...]:
        """Tell the sender that an automatic reply came."""
        to = self._sender(message)
        if to is None:
            return ()
        herald = self._writer.herald
        return self._keep(lambda: replied_notice(herald, message, recipients, to=to, now=now), to, message, now)

    def unclear(self, message: Message, recipients: Sequence[Address], *, now: float) -> tuple[Change, ...]:
        """Tell the sender that something came back that nobody understands; it may be a failure."""
        to = self._sender(message)
        named = [one for one in message.envelope.recipients if one.address in recipients]
        if to is None or (named and not any(one.wants("FAILURE") for one in named)):
            return ()
        herald = self._writer.herald
        return self._keep(lambda: unclear_notice(herald, message, recipients, to=to, now=now), to, message, now)

    def unmatched(self, report: Message, facts: Sequence[str], *, now: float) -> tuple[Change, ...]:
        """Tell the postmaster of something that belongs to no message."""
        to = self._writer.postmaster
        body = unmatched_notice(self._writer.herald, report.id, facts, now=now)
        return self._notices.keep(body, to, Origin.NOTICE, report, now=now)

    def _sender(self, message: Message) -> Address | None:
        sender = message.envelope.reverse_path.address
        return None if sender is None or sender.domain in self._ours else sender

    def _keep(self, write: _Write, to: Address, message: Message, now: float) -> tuple[Change, ...]:
        try:
            body = write()
        except Exception:
            log.exception("a notice of what came back could not be written", message_id=message.id)
            return ()
        return self._notices.keep(body, to, Origin.DSN, message, now=now)
