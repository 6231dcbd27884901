"""What each kind of trouble means for a recipient: the one place where a failure becomes retry, bounce or hold.

Only a positive answer to the final dot is final; of the rest, what names the *recipient* or the *message* for good
bounces, and everything that speaks of a host, a network or ourselves is retried until the copy expires:

- A 5yz to MAIL, RCPT, DATA or the final dot bounces (RFC 5321 section 4.2.1), save 552 to RCPT, which is 452 written by
  an old server (section 4.5.3.1.10), and 5yz whose cause is the session and not the mail: 500 to 504 (bad command), and
  530, 534, 535, 538, which want TLS or a login first (RFC 3207 section 4, RFC 4954 section 6). Another host or a mended
  configuration cures those: a smarthost's changed password must not return the mail of a whole night.
- 5yz at greeting, EHLO, STARTTLS or AUTH speaks of the host: the next host is tried, and when none is left the copy
  waits.
- 421 at any moment is the host going away (section 3.8).
- NXDOMAIN bounces 5.1.2, null MX 5.1.10 (RFC 7505 section 4.2), no MX and no address 5.4.4; a DNS that fails is
  retried.
- Below the floor, the copy waits and spends its ``within``; what then happens is the plan's business.
- A connection lost after the final dot is retried: a duplicate is better than a loss (RFC 1047).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.core.outcome import Failure, RecipientResult, Stage, Trouble
from relay.core.reply import EnhancedStatus, Reply


class Course(StrEnum):
    """What becomes of the recipient now."""

    RETRY = "retry"
    FAIL = "fail"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disposition:
    """The written answer to one failure.

    Attributes:
        course: retry until expiry, fail now with a DSN, or hold for an operator.
        status: the enhanced status for DSN and audit (RFC 3463): the server's where it gave one, else the class's own.
        why: one clause in plain words, ours alone: fit for operators, logs and DSNs.
        spends_within: whether it counts against the treatment's ``within`` (the level was not reached).
        reply: the server's answer, not yet scrubbed, for Diagnostic-Code.
        host: the host it happened with, or empty.
        failure: what it answers; ``None`` where none happened (a copy that expired).
    """

    course: Course
    status: EnhancedStatus
    why: str
    spends_within: bool = False
    reply: Reply | None = None
    host: str = ""
    failure: Failure | None = None


_HOST_STAGES: Final = frozenset({Stage.CONNECT, Stage.GREETING, Stage.EHLO, Stage.TLS, Stage.AUTH})
_TOO_LARGE: Final = 552  # "exceeded storage allocation"; at RCPT old servers mean "too many recipients"
_COMMAND_CODES: Final = frozenset({500, 501, 502, 503, 504})
_LOGIN_CODES: Final = frozenset({530, 534, 535, 538})

_STATUS_BY_STAGE: Final = {
    Stage.GREETING: (3, 2),
    Stage.EHLO: (5, 0),
    Stage.TLS: (7, 10),
    Stage.AUTH: (7, 8),
    Stage.MAIL: (1, 0),
    Stage.RCPT: (1, 0),
}
"""Subject and detail (RFC 3463 section 3) for a server that gave no enhanced status."""

_RULES: Final[dict[Trouble, tuple[Course, EnhancedStatus, str]]] = {
    Trouble.NO_DOMAIN: (Course.FAIL, EnhancedStatus(5, 1, 2), "the recipient's domain does not exist"),
    Trouble.NULL_MX: (Course.FAIL, EnhancedStatus(5, 1, 10), "the recipient's domain accepts no mail"),
    Trouble.NO_HOST: (Course.FAIL, EnhancedStatus(5, 4, 4), "the recipient's domain has no mail server"),
    Trouble.DNS: (Course.RETRY, EnhancedStatus(4, 4, 3), "the DNS gave no usable answer"),
    Trouble.LOOP: (Course.FAIL, EnhancedStatus(5, 4, 6), "the recipient's mail servers are this server itself"),
    Trouble.FORBIDDEN_ADDRESS: (
        Course.RETRY,
        EnhancedStatus(4, 4, 4),
        "every address of the recipient's mail servers is in a private or reserved network",
    ),
    Trouble.NETWORK: (Course.RETRY, EnhancedStatus(4, 4, 1), "the recipient's mail server could not be reached"),
    Trouble.AMBIGUOUS: (
        Course.RETRY,
        EnhancedStatus(4, 4, 2),
        "the connection ended before the recipient's server said whether it took the message",
    ),
    Trouble.BELOW_FLOOR: (
        Course.RETRY,
        EnhancedStatus(4, 7, 10),
        "the recipient's mail server did not offer the protection that this message needs",
    ),
    Trouble.PROTOCOL: (Course.RETRY, EnhancedStatus(4, 5, 0), "the recipient's mail server did not speak SMTP"),
    Trouble.UNSUPPORTED: (
        Course.FAIL,
        EnhancedStatus(5, 6, 0),
        "the recipient's mail server lacks an extension that this message needs",
    ),
    Trouble.UNAVAILABLE: (Course.HOLD, EnhancedStatus(4, 7, 5), "no way to protect this copy is available"),
    Trouble.SUPPRESSED: (Course.FAIL, EnhancedStatus(5, 7, 1), "the recipient is suppressed"),
    Trouble.LOCAL: (Course.RETRY, EnhancedStatus(4, 3, 0), "something of our own failed"),
}
"""All troubles but ``REPLY``, each with its one written course."""

_UNSUPPORTED_WHY: Final = {
    (3, 4): "the message is larger than the recipient's mail server accepts",
    (6, 3): "the recipient's mail server takes no 8-bit messages, and this one cannot be converted",
    (6, 7): "the recipient's mail server takes no internationalised addresses",
    (7, 30): "the recipient's mail server does not promise to keep the message under TLS (REQUIRETLS)",
}
_CONVERSIONS: Final = frozenset({2, 3})
"""Of subject 6 (RFC 3463 section 3.7): the message itself stands in the way, and who adapts it says how."""
_DETAILED: Final = frozenset(
    {
        Trouble.DNS,
        Trouble.NETWORK,
        Trouble.AMBIGUOUS,
        Trouble.BELOW_FLOOR,
        Trouble.PROTOCOL,
        Trouble.SUPPRESSED,
        Trouble.LOCAL,
    }
)
"""Troubles whose detail (our own words, without patients' data) tells more than their class."""


def disposition(failure: Failure) -> Disposition:
    """The course that a failure leads to. Total: every ``Trouble`` has one."""
    if failure.trouble is Trouble.REPLY and failure.reply is not None:
        return _of_reply(failure, failure.reply)
    if failure.trouble is Trouble.REPLY:
        return _of_rule(failure, Trouble.PROTOCOL)
    return _of_rule(failure, failure.trouble)


def of_result(result: RecipientResult) -> Disposition | None:
    """As :func:`disposition`, for a recipient's result; ``None`` when it is delivered."""
    if result.delivered:
        return None
    failure = result.failure
    if failure is None:  # neither taken nor refused: nothing positive was said, so it is retried
        failure = Failure(trouble=Trouble.PROTOCOL, stage=Stage.FINAL, reply=result.reply)
    return disposition(failure)


def belongs_in_next_transaction(course: Disposition) -> bool:
    """Whether the recipient was one too many for this transaction: the rest goes in another (RFC 5321 4.5.3.1.10).

    A 452 without an enhanced status may mean a full disk too: it is for the caller to see that something was taken.
    """
    failure, reply = course.failure, course.reply
    if failure is None or reply is None or failure.stage is not Stage.RCPT or reply.code not in {452, _TOO_LARGE}:
        return False
    return reply.enhanced is None or (reply.enhanced.subject, reply.enhanced.detail) == (5, 3)


def _of_rule(failure: Failure, trouble: Trouble) -> Disposition:
    course, status, why = _RULES[trouble]
    if failure.status is not None:
        status = failure.status
    if trouble is Trouble.UNSUPPORTED:
        why = _UNSUPPORTED_WHY.get((status.subject, status.detail), why)
        if failure.stage is Stage.RENDER and status.detail in _CONVERSIONS and failure.detail:
            why = failure.detail
    elif trouble in _DETAILED and failure.detail:
        why = f"{why}: {failure.detail}"
    return Disposition(
        course=course,
        status=status,
        why=why,
        spends_within=trouble is Trouble.BELOW_FLOOR,
        reply=failure.reply,
        host=failure.host,
        failure=failure,
    )


def _of_reply(failure: Failure, reply: Reply) -> Disposition:
    permanent = reply.is_permanent and not _is_transient_in_truth(failure.stage, reply)
    klass = 5 if permanent else 4
    return Disposition(
        course=Course.FAIL if permanent else Course.RETRY,
        status=_status(failure, reply, klass),
        why=_reply_why(failure.stage, permanent=permanent),
        reply=reply,
        host=failure.host,
        failure=failure,
    )


def _is_transient_in_truth(stage: Stage, reply: Reply) -> bool:
    if stage in _HOST_STAGES:
        return True
    if stage is Stage.RCPT and reply.code == _TOO_LARGE:  # RFC 5321 section 4.5.3.1.10: treat as 452
        return reply.enhanced is None or (reply.enhanced.subject, reply.enhanced.detail) in {(5, 3), (3, 0)}
    if reply.code in _LOGIN_CODES:  # their own enhanced status, 5.7.x, says nothing more of the mail
        return True
    if reply.code not in _COMMAND_CODES:
        return False
    # A policy or mailbox refusal that hides behind such a code says so in its enhanced status: subjects 1, 2, 6 and 7.
    return reply.enhanced is None or reply.enhanced.subject in {0, 3, 4, 5}


def _status(failure: Failure, reply: Reply, klass: int) -> EnhancedStatus:
    if reply.enhanced is not None:
        return EnhancedStatus(klass, reply.enhanced.subject, reply.enhanced.detail)
    if reply.code == _TOO_LARGE and failure.stage is not Stage.RCPT:
        return EnhancedStatus(klass, 3, 4)
    subject, detail = _STATUS_BY_STAGE.get(failure.stage, (0, 0))
    return EnhancedStatus(klass, subject, detail)


def _reply_why(stage: Stage, *, permanent: bool) -> str:
    verb = "refused" if permanent else "put off"
    what = {
        Stage.MAIL: "the sender",
        Stage.RCPT: "the recipient",
        Stage.DATA: "the message",
        Stage.FINAL: "the message",
        Stage.AUTH: "our login",
        Stage.TLS: "TLS",
    }.get(stage, "the connection")
    return f"the recipient's mail server {verb} {what}"
