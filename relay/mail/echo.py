"""Words of a server's answer that come from the message it answers (law 4).

A content filter that refuses a message may repeat its subject, a name or a line of the text, without any mark that
tells the quotation from the server's own words. What it says is therefore compared with what it was sent.
"""

import re
from dataclasses import replace
from typing import Final

from relay.core.labour import labour
from relay.core.outcome import RecipientResult
from relay.core.reply import Reply
from relay.mail.leaf import Leaf, MimeLimits
from relay.mail.mime import read_message
from relay.mail.scrub import LIMIT, scrub
from relay.mail.text import text_of

_WORD: Final = re.compile(r"[^\W_](?:[\w'-]*[^\W_])?")
_SHORTEST: Final = 3  # letters; a shorter word says nothing of anybody
_LOOKED_AT: Final = 262_144  # octets of the message's beginning
_SEARCHED: Final = 200_000_000
"""Characters of the message that are searched for words of answers, all together: a quarter of a second. Of words that
come after it, each may be the message's: a server can answer each recipient with thousands of its own."""
_KEPT: Final = 2000
"""Characters of an answer that are kept: it can have 32,768, for as many recipients as a message has."""
_KEPT_LINES: Final = 20
_LIMITS: Final = MimeLimits(parts=50, labour=500_000)
_ENCODED: Final = ("base64", "quoted-printable", "=?")
_WITHHELD: Final = "[withheld]"
_RUN: Final = re.compile(r"[\[(<]*\[withheld\](?:[^\w\[]{0,4}\[withheld\])*[\])>]*")
_REPLY_CODE: Final = re.compile(r"[245]\d\d\Z")

_ORDINARY: Final = frozenset(
    """
    abuse accept accepted access account action active address addresses administrator administrators after again
    all allowed already and any are attached attachment attempt attempts authenticated authentication available back
    bad banned because been before begins being black blacklist block blocked blocklist body bounce busy but bytes
    cannot change characters check client closed code command commands complete completed configuration connect
    connection connections considered contact contains content could currently customer data day days deferred
    delayed deliver delivered delivering delivery denied details detected directory disabled disk dkim dmarc dns
    does domain domainkeys domains dot due email emails encrypted encryption end enough error exceeded exceeding
    exceeds exist exists expired external failed failure fatal few field file filter filtered final for found from
    full future given gmail goodbye google greylist greylisted greylisting has have header headers help here high
    hit host hosts hour hours http https identified inactive incoming infected information insufficient internal
    invalid invalidated issue its junk know known large later length like limit limited line lines list listed local
    locally looking looks lookup lookups loop mail mailbox mailboxes mailer maximum may message messages microsoft
    minute minutes missing more moved must name network never new nobody none not now off office365 okay one only
    open operation out outlook over overquota own pass passed per permanent permanently permission permitted please
    point policy poor postmaster practices prevent prohibited protected protocol provided provider ptr queue queued
    quota rate read reason received recipient recipients recommended record records refused reject rejected
    rejection relay relaying reputation request requested required resources restricted result retry return reverse
    rule rules same score second seconds security see send sender senders sending sent server servers service
    session setup should signature site size small smtp source space spam spf starttls status storage subject such
    support suspected suspended syntax system table take taken temporarily temporary text than thank that the then
    there therefore these they this through time timeout tls too traffic transaction transmission try unable
    unacceptable unauthenticated unauthorized unavailable unblock unexpected unknown unrouteable unsolicited until
    unusual url urls use user users using valid validation verification verify version via violation virtual virus
    visit was website welcome were when which while why will with within without world writing wrong yet you your
    zone
    """.split()  # noqa: SIM905  a list of words is read as words
)
"""What servers say by themselves: kept even where the message says it too, so that an answer stays readable."""
_SAID_BY_ALL: Final = _ORDINARY | {"withheld", "token", "number"}


class Echoes:
    """What servers' answers repeat of one message, which is read once, however many recipients they are about.

    Args:
        content: the message, of which the beginning is read; ``None``: it is not known, and nothing is found.
    """

    def __init__(self, content: bytes | None) -> None:
        self._content = content
        self._said: dict[bool, str | None] = {}
        self._known: dict[bool, dict[str, bool]] = {False: {}, True: {}}
        self._left = _SEARCHED

    def withheld(self, result: RecipientResult) -> RecipientResult:
        """A result, as the session gave it, whose server's answer is short and repeats nothing of the message."""
        reply, failure = result.reply, result.failure
        if reply is not None:
            reply = self._unechoed(reply)
        if failure is not None and failure.reply is not None:
            failure = replace(failure, reply=self._unechoed(failure.reply))
        if reply is result.reply and failure is result.failure:
            return result
        return replace(result, reply=reply, failure=failure)

    def _unechoed(self, reply: Reply) -> Reply:
        reply = _shortened(reply)
        words = _words(reply.text) if self._content else frozenset()
        if words:
            words = self._repeated(words, whole=not reply.is_positive)
        if not words:
            return reply
        return replace(
            reply, lines=tuple(_WORD.sub(lambda match: _kept(match[0], words), line) for line in reply.lines)
        )

    def _repeated(self, words: frozenset[str], *, whole: bool) -> frozenset[str]:
        """Those of the words that the message says; each is looked for once."""
        if whole not in self._said:
            self._said[whole] = _readable(self._content or b"", whole=whole)
        said, known = self._said[whole], self._known[whole]
        if said is None:
            return words
        for word in sorted(words - known.keys()):
            self._left -= len(said)
            known[word] = self._left < 0 or word in said
        return frozenset(word for word in words if known[word])


def _shortened(reply: Reply) -> Reply:
    if len(reply.lines) <= _KEPT_LINES and sum(map(len, reply.lines)) <= _KEPT:
        return reply
    lines: list[str] = []
    left = _KEPT
    for line in reply.lines[:_KEPT_LINES]:
        if left <= 0:
            break
        lines.append(line[:left])
        left -= len(line)
    return replace(reply, lines=tuple(lines))


def ordinary(text: str, *, limit: int = LIMIT) -> str:
    """What is left of a stranger's text when only words stay that servers say by themselves, and their codes.

    For answers to messages that are no longer at hand, so that what they repeat cannot be found by comparing.
    """
    line = _WORD.sub(lambda match: match[0] if _is_ordinary(match[0]) else _WITHHELD, scrub(text, limit=limit))
    return _RUN.sub(_WITHHELD, line)[:limit]


def _is_ordinary(word: str) -> bool:
    return len(word) < _SHORTEST or word.casefold() in _SAID_BY_ALL or _REPLY_CODE.match(word) is not None


def _kept(word: str, words: frozenset[str]) -> str:
    return _WITHHELD if word.casefold() in words else word


def echoed(answer: str, content: bytes, *, whole: bool = True) -> frozenset[str]:
    """The words of an answer, case folded, that the message says too and servers do not say by themselves.

    Args:
        answer: what the server said.
        content: the message, of which the beginning is read.
        whole: also what the message says in base64, quoted-printable and encoded words.
    """
    words = _words(answer)
    return _found(words, _readable(content, whole=whole)) if words else words


def _words(answer: str) -> frozenset[str]:
    """The words of an answer, case folded, that servers do not say by themselves."""
    return frozenset({word.casefold() for word in _WORD.findall(answer) if len(word) >= _SHORTEST} - _ORDINARY)


def _readable(content: bytes, *, whole: bool) -> str | None:
    """What a message says; ``None`` where that is too dear to find out."""
    content = content[:_LOOKED_AT]
    return None if whole and labour(content) > _LIMITS.labour else _said(content, whole=whole)


def _found(words: frozenset[str], said: str | None) -> frozenset[str]:
    """Those of the words that the message says; all of them, for any may be in it, where that is not known."""
    return words if said is None else frozenset(word for word in words if word in said)


def _said(content: bytes, *, whole: bool) -> str:
    """All that the message says, case folded: as it stands, and decoded when ``whole``."""
    raw = content.decode("utf-8", "replace").casefold()
    if not whole or not any(mark in raw for mark in _ENCODED):
        return raw
    tree = read_message(content, _LIMITS)
    texts = [text_of(leaf.data, leaf.content_type, leaf.charset) for leaf in tree.leaves if _is_text(leaf)]
    return "\n".join((raw, *(value.casefold() for _, value in tree.headers), *(text.casefold() for text in texts)))


def _is_text(leaf: Leaf) -> bool:
    return leaf.content_type.startswith("text/")
