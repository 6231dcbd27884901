"""Bounces that are not delivery status notifications: how mail systems word them, each a mark and a way to read it.

``mark`` tells the format by headers and text; ``entries`` finds recipient (``rcpt``) and reason (``why``). All patterns
are RE2: linear over whatever a stranger sends. Sources are the systems' own templates and manuals.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import re2

_R: Final = r"<?(?P<rcpt>[^\s<>@\"',;:()\[\]]{1,64}@[\w.-]{1,253}\w)>?"
"""A mailbox, angle brackets or not."""
_BLOCK: Final = r"(?P<why>(?:[ \t]*\S[^\n]*\n){1,12})"
"""Lines up to an empty one."""
_LINE: Final = r"(?P<why>[^\n]{1,1000})"


@dataclass(frozen=True, slots=True)
class BounceFormat:
    """One way of wording a bounce.

    Attributes:
        name: the system, as ``postern bounce parse`` shows it.
        mark: RE2 over header and text; found, the message is of this format.
        entries: RE2 over the text, tried in order until one finds a recipient; each match is one.
        reason: RE2 with ``why`` over the text, for formats that tell the reason apart from the recipient.
    """

    name: str
    mark: Any
    entries: tuple[Any, ...]
    reason: Any = field(default=None)


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.case_sensitive = False
    options.one_line = False
    options.log_errors = False
    return re2.compile(f"(?m){pattern}", options)


def _format(name: str, mark: str, *entries: str, reason: str = "") -> BounceFormat:
    return BounceFormat(
        name,
        _compiled(mark.replace(" ", r"\s+")),
        tuple(_compiled(one) for one in entries),
        _compiled(reason) if reason else None,
    )


FORMATS: Final = (
    _format("qmail", r"this is the (qmail-send|deliver) program", rf"^{_R}:\n{_BLOCK}"),
    _format("netqmail-mess822", r"^i.m (not going to try again|afraid i wasn.t able to deliver)", rf"^{_R}:\n{_BLOCK}"),
    _format("james", r"this is the james mail server", rf"^\s*{_R}\s*$", reason=rf"error message below:\s*\n{_BLOCK}"),
    _format(
        "postfix",
        r"this is the (postfix program|mail system) at host|this is the .{1,40} (program|mail system) at host",
        rf"^{_R}(?: \(expanded from [^)]{{0,300}}\))?: {_BLOCK}",
    ),
    _format("zoho", r"error code ?:", rf"{_R} ?,? error code ?: ?{_LINE}"),
    _format("gmx", r"the following address failed:", rf'^"?{_R}"?:\n{_BLOCK}'),
    _format("kundenserver", r"the following address\(es\) failed:\s*\n\s*\n[^\s]+@[^\s]+:\n", rf"^{_R}:\n{_BLOCK}"),
    _format(
        "exim",
        r"^x-failed-recipients:|this message was created automatically by mail delivery software",
        rf"^ {{2,}}{_R}(?:\n {{4,}}\(generated from [^)]{{0,300}}\))?\n(?P<why>(?:[ \t]{{4,}}\S[^\n]*\n){{1,12}})",
        rf"^x-failed-recipients: {_R}",
    ),
    _format(
        "gmail-address",
        r"your message wasn.t delivered to",
        rf"your message wasn.t delivered to {_R}",
        reason=r"the response (?:from the remote server )?was:\s*\n+(?P<why>(?:\S[^\n]*\n){1,12})",
    ),
    _format(
        "gmail",
        r"delivery to the following recipients? (failed permanently|has been delayed)",
        rf"(?:failed permanently|has been delayed):\s*\n+ *{_R}",
        reason=r"technical details of [a-z]+ failure: *\n?(?P<why>(?:[^\n]*\S[^\n]*\n){1,12})",
    ),
    _format("yahoo", r"unable to deliver your message to the following address", rf"^{_R}:\n{_BLOCK}"),
    _format(
        "ses",
        r"an error occurred while trying to deliver the mail to the following recipients",
        rf"following recipients:\s*\n+\s*{_R}",
        reason=r"^(?P<why>[45]\d\d [^\n]{1,500})",
    ),
    _format(
        "sendmail",
        (
            r"----- (the following addresses had (permanent fatal|transient non-fatal) errors|transcript of "
            r"session follows)"
        ),
        rf"^{_R}\n +\((?:reason|expanded from): (?P<why>[^\n]{{1,800}})\)",
        rf"^(?P<why>[45]\d\d [^\n]{{0,60}}[\s<]{_R}[^\n]{{0,300}})",
        rf"errors -+\s*\n{_R}",
        reason=r"^(?:<<< )?(?P<why>[45]\d\d[ -][^\n]{1,500})",
    ),
    _format(
        "delivery-problems",
        r"-{3,} the following addresses had delivery problems? -{3,}",
        rf"^{_R} +\((?P<why>[^)\n]{{1,200}})\)",
        rf"problems? -+\s*\n+{_R}",
        reason=r"^(?:<<< )?(?P<why>[45]\d\d[ -][^\n]{1,500})",
    ),
    _format(
        "exchange-2007",
        r"delivery has failed to these recipients|diagnostic information for administrators",
        rf"^{_R}\s*\n(?P<why>(?:#|remote server returned)[^\n]{{1,800}})",
        rf"\(?(?:mailto:)?{_R}[>)]*\s*\n(?P<why>[^\n]{{10,500}})",
    ),
    _format(
        "hmailserver",
        r"hmailserver (sent|has)|error type: smtp",
        rf"could not be reached:\s*\n+\s*{_R}",
        reason=rf"remote server replied: {_LINE}",
    ),
    _format(
        "exchange-2003",
        r"the following recipient\(s\) (could not be reached|cannot be reached)",
        rf"^\s+'?{_R}'? on \d[^\n]*\n{_BLOCK}",
    ),
    _format("exchange-5.5", r"did not reach the following recipient\(s\)", rf"^'?{_R}'? on [^\n]{{5,60}}\n{_BLOCK}"),
    _format(
        "domino",
        r"was not delivered to:\s*\n",
        rf"was not delivered to:\s*\n+\s*{_R}",
        reason=rf"because:\s*\n+{_BLOCK}",
    ),
    _format(
        "groupwise",
        r"message that you sent was undeliverable to the following",
        rf"^\s+{_R} \((?P<why>[^\n]{{1,500}})\)\s*$",
    ),
    _format(
        "imail",
        r"^x-mailer: <smtp32|undeliverable mail.{0,40}\n(.*\n){0,30}(unknown (user|host)|user mailbox exceeds)",
        (
            r"^(?P<why>(?:unknown user|unknown host|user mailbox exceeds allowed size|invalid final delivery "
            rf"userid|delivery failed[^:\n]*)): {_R}"
        ),
    ),
    _format(
        "communigate",
        r"(local|smtp|pipe|system) module\([^)]*\) reports",
        rf"failed to deliver to '?{_R}'?\s*\n[^\n]*reports:\s*\n{_BLOCK}",
    ),
    _format("courier", r"your message to the following recipients? cannot be delivered", rf"^{_R}:\s*\n{_BLOCK}"),
    _format("smail", r"message log follows: -|failed addresses follow: -", rf"^ ?{_R} ?\.\.\. {_LINE}"),
    _format(
        "mdaemon",
        r"permanent fatal delivery errors|--- session transcript ---",
        rf"failed address: {_R}",
        rf"^{_R} - {_LINE}",
        reason=r"<-- (?P<why>[45]\d\d[ -][^\n]{1,500})",
    ),
    _format(
        "messagelabs",
        r"i was unable to deliver your message to the following addresses",
        rf"following addresses:?\s*\n+\s*{_R}",
        reason=rf"reason:\s*{_LINE}",
    ),
    _format(
        "mailmarshal",
        r"the following recipients were affected",
        rf"recipients were affected:\s*\n+\s*{_R}",
        reason=rf"because:\s*\n+\s*{_LINE}",
    ),
    _format(
        "sun-messaging-server",
        r"your message cannot be delivered to the following recipients",
        (
            rf"recipient address: {_R}(?:\n[^\n]+)??\n\s*reason: (?P<why>[^\n]{{1,300}}(?:\n\s*diagnostic "
            rf"code: [^\n]{{1,500}})?)"
        ),
    ),
    _format(
        "powermta",
        r"list of\s+the affected recipients|delivery status of\s+a\s+message you previously sent",
        rf"{_R}; (?:failed|delayed); (?P<why>[^\n]{{1,300}}\n(?:[ \t]+[^\n]+\n){{0,6}})",
    ),
    _format("opensmtpd", r"this is the mailer-daemon, please do not reply", rf"^{_R}: {_BLOCK}"),
    _format(
        "dma",
        r"this is the dragonfly mail agent",
        rf"delivering your mail to {_R}",
        reason=rf"did not like our [^\n]*:\n{_BLOCK}",
    ),
    _format("trend-micro", r"^sent >>>", rf"^sent >>> rcpt to: ?{_R}[^\n]*\nreceived <<< {_LINE}"),
    _format(
        "xmail",
        r"the reason of the delivery failure was",
        rf"rcpt to\s*=\s*\"?{_R}",
        rf"to:? *\[{_R}\]",
        reason=rf"delivery failure was:\s*\n+{_BLOCK}",
    ),
    _format(
        "surfcontrol",
        r"a transcript of the attempts to send the message follows",
        rf"addressed to: {_R}",
        reason=r"(?P<why>[45]\d\d[ -][^\n]{1,500})",
    ),
    _format(
        "dovecot", r"was automatically rejected", rf"your message to {_R} was automatically rejected:?\s*\n{_BLOCK}"
    ),
    _format(
        "mercury",
        (
            r"the following address(?:es)? (produced|had) (permanent|an) error|is not known here|could not "
            r"be delivered to the following address(?:es)?"
        ),
        rf"following address(?:es)?[^\n]{{0,40}}:\s*\n+\s*{_R}",
        rf"{_R} is not known here",
        reason=r"(?P<why>[45]\d\d[ -][^\n]{1,500}|is not known here|no such (?:local )?user)",
    ),
    _format(
        "nullmailer",
        r"(permanent|fatal) error in sending the message|the message (envelope )?could not be sent",
        rf"^to: {_R}",
        rf"^{_R}\s*$",
        reason=rf"error[^:\n]*: {_LINE}",
    ),
    _format(
        "mimecast",
        r"your email to .{1,300} (was rejected|could not be delivered)",
        rf"your email to {_R} (?:was rejected|could not be delivered)",
        reason=rf"reason: {_LINE}",
    ),
    _format(
        "list-group",
        r"the group you tried to contact|permission to post messages to the group",
        rf"(?:hello|we.re writing to let you know that the group you tried to contact) \(?{_R}",
        reason=r"(?P<why>[^\n]{0,80}permission to post messages[^\n]{0,200})",
    ),
    _format(
        "plain-said",
        r"(mail|message|delivery|e-?mail).{0,60}(fail|undeliver|return|not deliver|could not|problem)",
        rf"^\s*{_R}:? *\n?(?P<why>[ \t]*(?:#|host |smtp error |remote host said|[45]\d\d[ -])[^\n]{{1,800}})",
        rf"(?P<why>[45]\d\d[ -](?:[45]\.\d+\.\d+ )?[^\n]{{0,80}}[\s<(]{_R}[^\n]{{0,300}})",
    ),
)
"""The more telling ones first; the last is the general shape that home-grown servers use."""

COPY_BELOW: Final = _compiled(
    r"^-{2,} ?(below this line is a copy of the message|original message|message header follows|this is a copy of"
    r" (the|your) message|the body of the message)|^-{3,}.{0,30}(unsent message|original message|message text follows|"
    r"return(ed)? message).{0,30}$|^--- (below|the original)|^received: (from|by) "
)
"""Where the copy of what was sent begins: nothing below it speaks of the failure."""
