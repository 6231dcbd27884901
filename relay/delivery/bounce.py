"""What a refusal means: one taxonomy for replies in a session and for bounces that come back later.

A *class* says what the other side meant, a *family* is the coarse group that dashboards and reports count, and an
*action* says what follows beyond the copy's own course (``delivery/trouble.py`` decides that one: retry, fail or hold).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.core.outcome import Failure, Trouble
from relay.core.reply import EnhancedStatus


class Family(StrEnum):
    """The coarse groups; the last two only for mail that comes back."""

    USER_UNKNOWN = "user_unknown"
    MAILBOX_DISABLED = "mailbox_disabled"
    MAILBOX_FULL = "mailbox_full"
    DOMAIN = "domain"
    NETWORK_SYSTEM = "network_system"
    MESSAGE_SIZE = "message_size"
    THROTTLE_TEMP = "throttle_temp"
    SPAM_OR_REPUTATION = "spam_or_reputation"
    POLICY_AUTH = "policy_auth"
    OTHER = "other"
    FEEDBACK = "feedback"
    AUTO_REPLY = "auto_reply"


class BounceAction(StrEnum):
    """What follows from a class, beyond the fate of the copy itself."""

    RETRY = "retry"
    """Nothing but time: the retry schedule as it is."""
    SLOW_DOWN = "slow-down"
    """Give the destination less at once."""
    SUSPEND = "suspend"
    """Leave the destination alone for a while: more mail now would only be refused for the same reason."""
    SUPPRESS = "suppress"
    """The mailbox takes no mail: further messages to it are refused at once."""
    TELL = "tell"
    """An operator must look: it is ours to mend, or it will go on."""
    RETURN = "return"
    """The sender is told, and nothing else follows."""
    NONE = "none"
    """Nothing failed."""


class BounceClass(StrEnum):
    """What the other side meant."""

    INVALID_RECIPIENT = "invalid-recipient"
    INACTIVE_MAILBOX = "inactive-mailbox"
    MAILBOX_FULL = "mailbox-full"
    DOMAIN_NOT_FOUND = "domain-not-found"
    NO_MAIL_HOST = "no-mail-host"
    ROUTING = "routing"
    CONNECTION = "connection"
    SERVER_FAILURE = "server-failure"
    TLS = "tls"
    SENDER_AUTHENTICATION = "sender-authentication"
    REPUTATION = "reputation"
    SPAM = "spam"
    CONTENT = "content"
    POLICY = "policy"
    RATE_LIMITED = "rate-limited"
    OVERLOADED = "overloaded"
    GREYLISTED = "greylisted"
    MESSAGE_SIZE = "message-size"
    PROTOCOL = "protocol"
    CONFIGURATION = "configuration"
    EXPIRED = "expired"
    OTHER = "other"
    COMPLAINT = "complaint"
    AUTO_REPLY = "auto-reply"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One class.

    Attributes:
        family: its group.
        permanent: what follows when the other side will not change its mind (5yz).
        transient: what follows while it may (4yz).
        words: what it means, for people.
    """

    family: Family
    permanent: BounceAction
    transient: BounceAction
    words: str


def _meaning(family: Family, permanent: BounceAction, transient: BounceAction, words: str) -> Meaning:
    return Meaning(family=family, permanent=permanent, transient=transient, words=words)


MEANINGS: Final = {
    BounceClass.INVALID_RECIPIENT: _meaning(
        Family.USER_UNKNOWN, BounceAction.SUPPRESS, BounceAction.RETRY, "there is no such mailbox"),
    BounceClass.INACTIVE_MAILBOX: _meaning(
        Family.MAILBOX_DISABLED, BounceAction.SUPPRESS, BounceAction.RETRY, "the mailbox is disabled or closed"),
    BounceClass.MAILBOX_FULL: _meaning(
        Family.MAILBOX_FULL, BounceAction.RETURN, BounceAction.RETRY, "the mailbox is full"),
    BounceClass.DOMAIN_NOT_FOUND: _meaning(
        Family.DOMAIN, BounceAction.RETURN, BounceAction.RETRY, "the recipient's domain does not exist"),
    BounceClass.NO_MAIL_HOST: _meaning(
        Family.DOMAIN, BounceAction.RETURN, BounceAction.RETRY, "the recipient's domain takes no mail"),
    BounceClass.ROUTING: _meaning(
        Family.NETWORK_SYSTEM, BounceAction.TELL, BounceAction.TELL, "the message runs in a circle or has no way on"),
    BounceClass.CONNECTION: _meaning(
        Family.NETWORK_SYSTEM, BounceAction.RETURN, BounceAction.RETRY, "the recipient's server could not be reached"),
    BounceClass.SERVER_FAILURE: _meaning(
        Family.NETWORK_SYSTEM, BounceAction.RETURN, BounceAction.RETRY, "the recipient's server failed inside"),
    BounceClass.TLS: _meaning(
        Family.POLICY_AUTH, BounceAction.TELL, BounceAction.RETRY, "no sufficient TLS between the servers"),
    BounceClass.SENDER_AUTHENTICATION: _meaning(
        Family.POLICY_AUTH, BounceAction.TELL, BounceAction.TELL, "SPF, DKIM or DMARC of the sending domain failed"),
    BounceClass.REPUTATION: _meaning(
        Family.SPAM_OR_REPUTATION, BounceAction.SUSPEND, BounceAction.SUSPEND, "our address or domain is blocked"),
    BounceClass.SPAM: _meaning(
        Family.SPAM_OR_REPUTATION, BounceAction.TELL, BounceAction.SLOW_DOWN, "the message was taken for spam"),
    BounceClass.CONTENT: _meaning(
        Family.POLICY_AUTH, BounceAction.RETURN, BounceAction.RETRY, "what the message holds, or its form, is refused"),
    BounceClass.POLICY: _meaning(
        Family.POLICY_AUTH, BounceAction.RETURN, BounceAction.RETRY, "a rule of the recipient's side refuses it"),
    BounceClass.RATE_LIMITED: _meaning(
        Family.THROTTLE_TEMP, BounceAction.SLOW_DOWN, BounceAction.SLOW_DOWN, "too much mail or too many connections"),
    BounceClass.OVERLOADED: _meaning(
        Family.THROTTLE_TEMP, BounceAction.SLOW_DOWN, BounceAction.SLOW_DOWN, "the recipient's server has no room"),
    BounceClass.GREYLISTED: _meaning(
        Family.THROTTLE_TEMP, BounceAction.RETRY, BounceAction.RETRY, "we are told to come again"),
    BounceClass.MESSAGE_SIZE: _meaning(
        Family.MESSAGE_SIZE, BounceAction.RETURN, BounceAction.RETRY, "the message is too large"),
    BounceClass.PROTOCOL: _meaning(
        Family.NETWORK_SYSTEM, BounceAction.TELL, BounceAction.RETRY, "the servers do not understand each other"),
    BounceClass.CONFIGURATION: _meaning(
        Family.POLICY_AUTH, BounceAction.TELL, BounceAction.TELL, "something of our own configuration is refused"),
    BounceClass.EXPIRED: _meaning(
        Family.NETWORK_SYSTEM, BounceAction.RETURN, BounceAction.RETRY, "it could not be delivered in time"),
    BounceClass.OTHER: _meaning(
        Family.OTHER, BounceAction.RETURN, BounceAction.RETRY, "no rule knows this answer"),
    BounceClass.COMPLAINT: _meaning(
        Family.FEEDBACK, BounceAction.SUPPRESS, BounceAction.SUPPRESS, "the recipient reported the message as spam"),
    BounceClass.AUTO_REPLY: _meaning(
        Family.AUTO_REPLY, BounceAction.NONE, BounceAction.NONE, "an automatic reply: the message arrived"),
}  # fmt: skip
"""Every class, with its family and what follows from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What an answer was understood to mean.

    Attributes:
        klass: the class.
        action: what follows: the class's own, or the rule's.
        rule: id of the rule that decided.
        permanent: whether the other side will not change its mind.
        code: the SMTP code read, 0 where there was none.
        status: the enhanced status read, or ``None``.
        pattern: the pattern that was found, for ``explain``; empty when codes alone decided.
        host: who said it, or empty.
    """

    klass: BounceClass
    action: BounceAction
    rule: str
    permanent: bool
    code: int = 0
    status: EnhancedStatus | None = None
    pattern: str = ""
    host: str = ""

    @property
    def family(self) -> Family:
        """The class's group."""
        return MEANINGS[self.klass].family


_OF_TROUBLE: Final = {
    Trouble.NO_DOMAIN: BounceClass.DOMAIN_NOT_FOUND,
    Trouble.NULL_MX: BounceClass.NO_MAIL_HOST,
    Trouble.NO_HOST: BounceClass.NO_MAIL_HOST,
    Trouble.DNS: BounceClass.CONNECTION,
    Trouble.LOOP: BounceClass.ROUTING,
    Trouble.FORBIDDEN_ADDRESS: BounceClass.ROUTING,
    Trouble.NETWORK: BounceClass.CONNECTION,
    Trouble.AMBIGUOUS: BounceClass.CONNECTION,
    Trouble.BELOW_FLOOR: BounceClass.TLS,
    Trouble.PROTOCOL: BounceClass.PROTOCOL,
    Trouble.UNSUPPORTED: BounceClass.PROTOCOL,
    Trouble.UNAVAILABLE: BounceClass.CONFIGURATION,
    Trouble.SUPPRESSED: BounceClass.POLICY,
    Trouble.LOCAL: BounceClass.CONFIGURATION,
    Trouble.REPLY: BounceClass.PROTOCOL,
}
_SIZE: Final = (3, 4)


def action_of(klass: BounceClass, *, permanent: bool) -> BounceAction:
    """What follows from a class that no rule says otherwise of."""
    meaning = MEANINGS[klass]
    return meaning.permanent if permanent else meaning.transient


def of_trouble(failure: Failure, *, permanent: bool) -> Verdict:
    """The verdict on a failure without a server's words: its trouble says it all."""
    klass = _OF_TROUBLE[failure.trouble]
    if failure.status is not None and (failure.status.subject, failure.status.detail) == _SIZE:
        klass = BounceClass.MESSAGE_SIZE
    return Verdict(
        klass=klass,
        action=action_of(klass, permanent=permanent),
        rule=f"trouble:{failure.trouble.value}",
        permanent=permanent,
        status=failure.status,
        host=failure.host,
    )
