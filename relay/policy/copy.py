"""What conditions look at: a message's facts, prepared once, and one recipient's copy of it."""

from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from relay.core.address import Address
from relay.core.envelope import MessageFacts
from relay.core.phi import FindingGroup

T = TypeVar("T")
_UNREADABLE: Final = FindingGroup.UNREADABLE  # enum members cost a lookup each time they are named


def clean(text: str) -> str:
    """The text without lone surrogates, which RE2 cannot read."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


class Lazy(Generic[T]):
    """An attribute made when first asked for; unlike ``functools.cached_property`` of 3.11 it takes no lock."""

    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> T:
        value = instance.__dict__[self._name] = self._make(instance)
        return value


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

    @Lazy
    def now(self) -> float:
        """The moment against which list rows expire: reception, but never before the policy was loaded."""
        return max(self.facts.received_at, self._loaded_at)

    @Lazy
    def clinics(self) -> tuple[str, ...]:
        """Whose mail this is, lower case: tenant, client, sending domain. List rows may be bound to one of them."""
        session = self.facts.session
        names = (session.tenant, session.client, self.facts.envelope.reverse_path.domain)
        return tuple(name.lower() for name in names if name)

    @Lazy
    def tls_not_required(self) -> bool:
        """Whether the header says ``TLS-Required: No``, once, and REQUIRETLS does not say otherwise (RFC 8689)."""
        values = [value for name, value in self.facts.headers if name == "tls-required"]
        return len(values) == 1 and values[0].strip().lower() == "no" and not self.facts.envelope.require_tls

    @Lazy
    def subject(self) -> str:
        """The decoded subject."""
        return clean(self.facts.subject)

    @Lazy
    def folded_subject(self) -> str:
        """The decoded subject without case."""
        return self.subject.casefold()

    @Lazy
    def headers(self) -> dict[str, list[str]]:
        """Decoded header values by lower-case name."""
        found: dict[str, list[str]] = {}
        for name, value in self.facts.headers:
            found.setdefault(name.lower(), []).append(clean(value))
        return found

    @Lazy
    def unreadable(self) -> bool:
        """Whether anything of the message could not be scanned."""
        for finding in self.facts.verdict.findings:
            if finding.group is _UNREADABLE:
                return True
        for attachment in self.facts.attachments:  # noqa: SIM110 (any() with a generator costs twice as much)
            if attachment.unreadable:
                return True
        return False


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
