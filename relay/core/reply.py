"""SMTP replies with enhanced status codes (RFC 5321 section 4.2, RFC 2034, RFC 3463)."""

import re
from dataclasses import dataclass
from typing import Final, Self

_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|\Z)")


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """``class.subject.detail`` of RFC 3463."""

    klass: int
    subject: int
    detail: int

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a leading ``5.7.1``; ``None`` when there is none."""
        match = _ENHANCED.match(text)
        return cls(int(match[1]), int(match[2]), int(match[3])) if match else None

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's answer. It refuses to be built when the classes of code and enhanced status disagree.

    Attributes:
        code: 200 to 599.
        enhanced: the RFC 3463 status; ``None`` where the server gave none, or none belongs there (greeting, EHLO, 354).
        lines: the text, one item a line, without code and enhanced status.
    """

    code: int
    enhanced: EnhancedStatus | None
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"not an SMTP reply code: {self.code}")
        if self.enhanced is not None and self.enhanced.klass != self.code // 100:
            raise ValueError(f"reply code {self.code} and enhanced status {self.enhanced} disagree")

    @classmethod
    def of(cls, code: int, enhanced: str, text: str) -> Self:
        """Build a reply: ``Reply.of(550, "5.7.1", "Not allowed")``; ``enhanced`` may be empty.

        Raises:
            ValueError: codes that disagree, or an enhanced status that does not parse.
        """
        status = EnhancedStatus.parse(enhanced) if enhanced else None
        if enhanced and status is None:
            raise ValueError(f"not an enhanced status: {enhanced}")
        return cls(code, status, tuple(text.split("\n")))

    @property
    def text(self) -> str:
        """All lines in one, for a log or a DSN (scrub first what a stranger wrote)."""
        return " ".join(self.lines)

    @property
    def is_positive(self) -> bool:
        """2yz: done."""
        return self.code < 300

    @property
    def is_transient(self) -> bool:
        """4yz: try again."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """5yz: never again in this form."""
        return self.code >= 500

    def encode(self) -> bytes:
        """The bytes for the wire, CRLF included."""
        status = f"{self.enhanced} " if self.enhanced else ""
        last = len(self.lines) - 1
        if not last:
            return f"{self.code} {status}{self.lines[0]}\r\n".encode()
        return "".join(
            f"{self.code}{'-' if number < last else ' '}{status}{line}\r\n" for number, line in enumerate(self.lines)
        ).encode("utf-8")

    def __str__(self) -> str:
        return f"{self.code} {f'{self.enhanced} ' if self.enhanced else ''}{self.text}"
