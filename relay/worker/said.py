"""What a recipient's server said, as it may be written down: without what names or shows a patient (law 4)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relay.core.entry import Claimed
from relay.core.fate import Fate, FateKind
from relay.core.level import Proof
from relay.core.reply import Reply
from relay.delivery.bounce import Verdict
from relay.delivery.trouble import Disposition
from relay.mail.scrub import scrub


def scrubbed(reply: Reply | None, hide: tuple[str, ...] = ()) -> Reply | None:
    """A reply without patients' data, nor any of ``hide``."""
    if reply is None:
        return None
    lines = tuple([scrub(line, hide=hide) for line in reply.lines])
    return reply if lines == reply.lines else replace(reply, lines=lines)


def bounced(course: Disposition, now: float, proof: Proof | None, hide: tuple[str, ...] = ()) -> Fate:
    """The fate of a recipient whose copy ended so."""
    return Fate(kind=FateKind.BOUNCED, at=now, reply=scrubbed(course.reply, hide), why=course.why, proof=proof)


def reason(course: Disposition, hide: tuple[str, ...]) -> str:
    """Why, by whom, and in which words."""
    host = f" ({course.host})" if course.host else ""
    answer = f": {scrub(str(course.reply), hide=hide)}" if course.reply is not None else ""
    return f"{course.why}{host}{answer}"


def local_parts(claimed: Claimed) -> tuple[str, ...]:
    """What a server may echo and nobody may read: the recipients' local parts."""
    return tuple(state.recipient.address.local for state in claimed.entry.recipients)


def waits(claimed: Claimed, again: Mapping[int, Disposition], verdicts: Mapping[int, Verdict]) -> list[dict[str, Any]]:
    """Why recipients wait, in one item for all that wait for the same."""
    hide = local_parts(claimed)
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, course in again.items():
        reply = scrub(str(course.reply), hide=hide) if course.reply is not None else ""
        meant = (verdicts[number].klass.value, verdicts[number].family.value)
        groups.setdefault((str(course.status), course.why, course.host, reply, *meant), []).append(number)
    names = ("status", "why", "host", "reply", "class", "family")
    return [{"numbers": numbers, **dict(zip(names, group, strict=True))} for group, numbers in groups.items()]
