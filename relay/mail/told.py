"""The notice of a decision: what a rule's ``notify`` has sent to a privacy officer or an operator.

It says which rule did what with which message, and nothing of the message itself: no mailbox, subject or text (law 4).
Whoever may see more looks the message up by its id.
"""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Final

from relay.core.address import Address
from relay.core.decision import Action
from relay.core.envelope import Message

_DID: Final = {Action.DELIVER: "let through", Action.HOLD: "held for an operator", Action.REJECT: "refused"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What one rule decided: its id, the action, and for how many recipients."""

    rule: str
    action: Action
    recipients: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Herald:
    """Who tells: the From field's display name (quoted) and mailbox, and our host's name."""

    name: str
    mailbox: Address
    host: str


def decision_notice(herald: Herald, message: Message, decided: Sequence[Ruling], *, to: Address, now: float) -> bytes:
    """The notice to one mailbox. Equal arguments give equal bytes."""
    token = hashlib.sha256(f"{message.id}\0{to}\0{now!r}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    rules = [
        f"  {one.rule or 'no rule'}: {_DID[one.action]}, {one.recipients} recipient{'s' if one.recipients > 1 else ''}"
        for one in decided
    ]
    lines = [
        f"From: {herald.name} <{herald.mailbox}>",
        f"To: <{to}>",
        f"Subject: Message {message.id}: a rule asks that you be told",
        f"Date: {_date(now)}",
        f"Message-ID: <{token}.decision-notice@{herald.host}>",
        "Auto-Submitted: auto-generated",  # RFC 3834 section 5
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=us-ascii",
        "",
        f"Of message {message.id}, taken on {_date(message.received_at)}",
        f"from the client {message.session.client or '-'}, the policy decided:",
        "",
        *rules,
        "",
        "To protect patients this notice says nothing of what is in the message. An",
        f"operator sees more with: postern queue show {message.id}",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8", "replace")


def _date(at: float) -> str:
    return format_datetime(dt.datetime.fromtimestamp(int(at), dt.UTC))
