"""The words of a reply or bounce, made fit to be judged: codes read, wrappers and mailboxes taken off.

Relays wrap what the last server said in words of their own ("host mx.example[192.0.2.1] said: ..."), and a mailbox or
a host name may hold any word: neither may decide what the answer means.
"""

import re
from dataclasses import dataclass
from typing import Final

from relay.core.reply import EnhancedStatus

LIMIT: Final = 1000
"""Characters of an answer that are judged; the reason stands at its beginning."""

_CODE: Final = re.compile(r"(?<![\w.#/=-])#?([245]\d\d)(?=[ \-:.,;\]\"')]|$)")
_STATUS: Final = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?!\.?\d)")
_EXIM: Final = (
    r"smtp error from remote (?:mail |mailer )?server after [\w ]{1,40}?(?::? ?<[^>]{0,300}>[\w =]{0,60})?: "
    r"(?:host [^\s:]{1,300}(?: \[[^\]]{1,60}\])?: )?"
)
_WRAPPERS: Final = tuple(
    (mark, re.compile(pattern, re.IGNORECASE))
    for mark, pattern in (
        # Postfix, Exim, dma, OpenSMTPD, qmail, Sendmail and Domino quote the last server after a phrase of their own.
        (" said: ", r"(?:delivery temporarily suspended: )?host \S{1,300}?(?:\[[^\]]{1,60}\])? said: "),
        (
            "smtp error from",
            _EXIM,
        ),
        ("host ", r"host \S{1,300} \[[^\]]{1,60}\](?=[: ]):? ?"),
        ("did not like our", r"\S{1,300} \[[^\]]{1,60}\] did not like our \w+(?: \w+)?:? ?"),
        ("remote ", r"remote (?:host|server) (?:said|returned):? '?"),
        ("smtp:", r"smtp:\w+ host \S{1,300}: "),
        (
            "it responded as follows",
            r"smtp server \S{1,300} rejected recipient \S{1,300} \([^)]{0,80}\)\. it responded as follows: ",
        ),
    )
)
"""What stands in a line that is wrapped so, in lower case, and the wrapper."""
_IN_REPLY: Final = re.compile(r"\(in reply to (?:end of )?([A-Z]{4})[A-Z ]* ?(?:command)?\)", re.IGNORECASE)
_MAILBOX: Final = re.compile(r"<?(?:\"[^\"]{0,100}\"|[^\s<>@,;:()\[\]\"']{1,200})@[\w\[\].-]{1,253}>?")
_REPEATED: Final = re.compile(r"\s[245]\d\d-(?:[245]\.\d{1,3}\.\d{1,3} )?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """An answer, taken apart.

    Attributes:
        text: one line, mailboxes masked, wrappers gone.
        code: the SMTP code, 0 for none.
        status: the enhanced status.
        stage: the command that a Postfix bounce says it answered (``MAIL``, ``RCPT``, ``DATA``), or empty.
    """

    text: str
    code: int
    status: EnhancedStatus | None
    stage: str

    @property
    def permanent(self) -> bool:
        """Whether it is for good; without any code it is, since a bounce says so by coming."""
        if self.code:
            return self.code >= 500
        return self.status is None or self.status.klass != 4


def words_of(answer: str) -> Words:
    """Take an answer apart; never raises, whatever it holds."""
    line = " ".join(answer[: LIMIT * 2].split())
    stage = _IN_REPLY.search(line)
    folded = line.lower()
    for mark, wrapper in _WRAPPERS:
        if mark in folded:  # most answers are wrapped by nobody, and to look is cheaper than to match
            line = wrapper.sub(" ", line, count=1)
    if "@" in line:
        line = _MAILBOX.sub("<@>", line)  # a word in its place could be one that a rule looks for
    line = _REPEATED.sub(" ", line)[:LIMIT].strip()
    code = _CODE.search(line)
    status = _STATUS.search(line)
    return Words(
        text=line,
        code=int(code[1]) if code else 0,
        status=EnhancedStatus(int(status[1]), int(status[2]), int(status[3])) if status else None,
        stage=stage[1].upper() if stage else "",
    )
