"""Where each copy of the demo stands, read from the audit trail as a compliance officer would read it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from relay.core.level import Level

HELD = "held"
WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One recipient's copy.

    Attributes:
        story: number of its message in the scenario.
        recipient: the mailbox.
        number: its place in the envelope.
        expected: the end it should meet.
        phi: the scan's verdict.
        rule: the rule that decided.
        floor: the floor it travels at.
        stands: ``waiting``, ``held`` or a fate.
        reached: the level of its connection; empty before it left.
        vouched_by: who vouched for the host's name.
        attempts: attempts so far.
        why: why it stands there.
    """

    story: int
    recipient: str
    number: int
    expected: str
    phi: str = ""
    rule: str = ""
    floor: str = ""
    stands: str = WAITING
    reached: str = ""
    vouched_by: str = ""
    attempts: int = 0
    why: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether it stands where it should."""
        return self.stands == self.expected

    @property
    def is_below_floor(self) -> bool:
        """Whether it left with less protection than it needed: this must never be."""
        if not self.reached or self.stands != "delivered":
            return False
        return Level.from_word(self.reached) < Level.from_word(self.floor)


class Ledger:
    """Copies by message, brought up to date from audit records."""

    def __init__(self) -> None:
        self._copies: dict[tuple[str, int], Copy] = {}
        self._numbers: dict[str, list[int]] = {}

    def add(self, message_id: str, story: int, recipients: Mapping[str, str]) -> None:
        """A message was accepted."""
        for number, (recipient, expected) in enumerate(recipients.items()):
            self._copies[message_id, number] = Copy(story=story, recipient=recipient, number=number, expected=expected)

    @property
    def copies(self) -> list[Copy]:
        """All copies, in the order of the scenario."""
        return sorted(self._copies.values(), key=lambda copy: (copy.story, copy.number))

    def read(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Bring the copies up to date; records may be read again."""
        for record in records:
            message_id, facts = record["message_id"], record["facts"]
            if record["kind"] == "accepted":
                for key in [key for key in self._copies if key[0] == message_id]:
                    self._change(key, phi=facts["phi"])
                continue
            if "entry" in facts and "numbers" in facts:
                self._numbers.setdefault(facts["entry"], facts["numbers"])
            for number in facts.get("numbers") or self._numbers.get(facts.get("entry", ""), ()):
                self._take((message_id, number), record["kind"], facts)

    def _take(self, key: tuple[str, int], kind: str, facts: Mapping[str, Any]) -> None:
        if kind == "decided":
            held = facts["action"] == "hold"
            self._change(
                key, rule=facts["rule"], floor=facts["floor"], **({"stands": HELD, "why": "by policy"} if held else {})
            )
        elif kind == "fate":
            proof = facts.get("proof") or {}
            self._change(
                key, stands=facts["fate"], why=facts.get("reply") or facts["why"], reached=proof.get("level", ""),
                vouched_by=proof.get("vouched_by", ""), attempts=facts.get("attempt", 0),
            )  # fmt: skip
        elif "state" in facts:
            waits = facts.get("waits") or [{}]
            why = facts.get("reason") or waits[0].get("reply") or waits[0].get("why", "")
            stands = HELD if facts["state"] == HELD else WAITING
            self._change(key, stands=stands, why=why, attempts=facts["attempt"])

    def _change(self, key: tuple[str, int], **changes: Any) -> None:
        copy = self._copies.get(key)
        if copy is not None:
            self._copies[key] = replace(copy, **changes)
