"""What conditions look at: a message's facts, prepared once, and one recipient's copy of it."""

import functools

from relay.core.address import Address
from relay.core.envelope import MessageFacts
from relay.core.phi import FindingGroup


def clean(text: str) -> str:
    """The text without lone surrogates, which RE2 cannot read."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


class Shared:
    """One message's facts in the forms that conditions need, each made when first asked for.

    Attributes:
        facts: the facts.
        memo: answers of conditions that all recipients share.
    """

    def __init__(self, facts: MessageFacts, loaded_at: float) -> None:
        self.facts = facts
        self.memo: dict[int, bool] = {}
        self._loaded_at = loaded_at

    @functools.cached_property
    def now(self) -> float:
        """The moment against which list rows expire: reception, but never before the policy was loaded."""
        return max(self.facts.received_at, self._loaded_at)

    @functools.cached_property
    def clinics(self) -> tuple[str, ...]:
        """Whose mail this is, lower case: tenant, client, sending domain. List rows may be bound to one of them."""
        session = self.facts.session
        names = (session.tenant, session.client, self.facts.envelope.reverse_path.domain)
        return tuple(name.lower() for name in names if name)

    @functools.cached_property
    def subject(self) -> str:
        """The decoded subject."""
        return clean(self.facts.subject)

    @functools.cached_property
    def folded_subject(self) -> str:
        """The decoded subject without case."""
        return self.subject.casefold()

    @functools.cached_property
    def headers(self) -> dict[str, list[str]]:
        """Decoded header values by lower-case name."""
        found: dict[str, list[str]] = {}
        for name, value in self.facts.headers:
            found.setdefault(name.lower(), []).append(clean(value))
        return found

    @functools.cached_property
    def finding_counts(self) -> dict[tuple[str, str], int]:
        """Findings by (kind or group, sensitive kind); under an empty sensitive kind stand all of a kind."""
        counts: dict[tuple[str, str], int] = {}
        for finding in self.facts.verdict.findings:
            kind = finding.kind.lower()
            for name in {kind, finding.group.value, kind.partition(":")[0], ""}:
                for sensitive in {"", finding.sensitive, "any" if finding.sensitive else ""}:
                    counts[name, sensitive] = counts.get((name, sensitive), 0) + 1
        return counts

    @functools.cached_property
    def unreadable(self) -> bool:
        """Whether anything of the message could not be scanned."""
        verdict = self.facts.verdict
        return any(finding.group is FindingGroup.UNREADABLE for finding in verdict.findings) or any(
            attachment.unreadable for attachment in self.facts.attachments
        )


class Copy:
    """One recipient's copy.

    Attributes:
        shared: the message.
        facts: its facts.
        recipient: the mailbox.
        held: ids of the floors that hold for this copy, in the policy's order.
    """

    __slots__ = ("facts", "held", "recipient", "shared")

    def __init__(self, shared: Shared, recipient: Address) -> None:
        self.shared = shared
        self.facts: MessageFacts = shared.facts
        self.recipient = recipient
        self.held: tuple[str, ...] = ()

    def mailbox(self, side: str) -> Address | None:
        """The recipient, or the envelope's sender (``None`` for the null sender)."""
        return self.recipient if side == "recipient" else self.facts.envelope.reverse_path.address
