"""MTA-STS records and policies (RFC 8461 sections 3.1, 3.2 and 4.1, with errata 6253, 6285 and 7282)."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

import orjson

from relay.core.address import normalise_domain
from relay.core.errors import AddressError

MAX_POLICY: Final = 64 * 1024
"""Octets of a policy that are read: RFC 8461 section 3.3 suggests this bound."""
MAX_AGE: Final = 31_557_600
"""Seconds, one year: RFC 8461 section 3.2."""
_MAX_MX: Final = 1000
_VERSION: Final = re.compile(r"v=STSv1[ \t]*;")
_ID: Final = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_FIELD: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})=([\x21-\x3a\x3c\x3e-\x7e]+)\Z")
_TERM: Final = re.compile(r"\r\n|\n")
_LINE: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):[ \t]*(\S(?:.*\S)?)[ \t]*\Z")
_SECONDS: Final = re.compile(r"[0-9]{1,10}\Z")


class PolicyError(ValueError):
    """A policy that RFC 8461 does not allow; its text says what is wrong and repeats nothing of it."""


class Mode(StrEnum):
    """What a sender does when a host fails the policy."""

    ENFORCE = "enforce"
    """It does not deliver there."""
    TESTING = "testing"
    """It delivers all the same, and reports."""
    NONE = "none"
    """There is no policy any more."""


def record_id(records: Iterable[str]) -> str | None:
    """The policy id that the TXT records at ``_mta-sts`` announce; ``None``: no policy is available.

    Records that do not begin with the version are passed over; when not exactly one is left, or it is malformed, the
    domain has no policy available (RFC 8461 section 3.1). That alone ends no policy that is already known.
    """
    ours = [record for record in records if _VERSION.match(record)]
    if len(ours) != 1:
        return None
    fields = [field.strip(" \t") for field in ours[0].split(";")[1:]]
    if fields and not fields[-1]:
        fields.pop()
    found = None
    for field in fields:
        match = _FIELD.match(field)
        if match is None:
            return None
        if match[1] == "id" and found is None:
            found = match[2]
    return found if found is not None and _ID.match(found) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy as its domain serves it.

    Attributes:
        mode: what it asks for.
        max_age: seconds it may be kept.
        mx: patterns that its hosts match, lower-case A-labels; the first label may be ``*``.
    """

    mode: Mode
    max_age: int
    mx: tuple[str, ...] = ()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read a policy file; lines end in LF or CRLF (erratum 6253), unknown keys are passed over.

        Of a key that may stand once, the first counts. A ``max_age`` of more than a year means a year.

        Raises:
            PolicyError: with what is wrong.
        """
        if len(content) > MAX_POLICY:
            raise PolicyError("the policy is larger than 64 KiB")
        single, patterns = _pairs(content)
        if single.get("version") != "STSv1":
            raise PolicyError("the policy's version is not STSv1")
        try:
            mode = Mode(single.get("mode", ""))
        except ValueError:
            raise PolicyError("the policy's mode is missing or unknown") from None
        if not _SECONDS.match(single.get("max_age", "")):
            raise PolicyError("the policy's max_age is missing or not a number")
        mx = tuple(dict.fromkeys(_pattern(text) for text in patterns))
        if not mx and mode is not Mode.NONE:
            raise PolicyError("the policy names no mx")
        return cls(mode=mode, max_age=min(int(single["max_age"]), MAX_AGE), mx=mx)

    def text(self) -> str:
        """The policy as a file to be served."""
        lines = ["version: STSv1", f"mode: {self.mode}", *(f"mx: {mx}" for mx in self.mx), f"max_age: {self.max_age}"]
        return "".join(f"{line}\r\n" for line in lines)

    def admits(self, host: str) -> bool:
        """Whether a host's name matches: exactly, or one label in the place of ``*`` (RFC 8461 section 4.1)."""
        name = host.rstrip(".").lower()
        label, dot, rest = name.partition(".")
        return name in self.mx or (bool(label and dot and rest) and f"*.{rest}" in self.mx)


def _pairs(content: bytes) -> tuple[dict[str, str], list[str]]:
    """The keys that stand once, first come, and all ``mx``."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise PolicyError("the policy is not UTF-8") from None
    single: dict[str, str] = {}
    patterns: list[str] = []
    lines = _TERM.split(text)
    while lines and not lines[-1].strip(" \t"):
        lines.pop()
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise PolicyError("a line of the policy is not a key and a value")
        if match[1] == "mx":
            patterns.append(match[2])
        else:
            single.setdefault(match[1], match[2])
    if len(patterns) > _MAX_MX:
        raise PolicyError("the policy names more than 1000 mx")
    return single, patterns


def _pattern(text: str) -> str:
    star, rest = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        name = normalise_domain(rest)
    except AddressError:
        raise PolicyError("an mx of the policy is not a host name") from None
    if name.startswith("["):
        raise PolicyError("an mx of the policy is an address")
    return star + name


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPolicy:
    """A policy as it is remembered.

    Attributes:
        policy: what the domain served.
        id: the id that its TXT record had then.
        fetched_at: unix seconds.
    """

    policy: Policy
    id: str
    fetched_at: float

    @property
    def until(self) -> float:
        """When it is no longer to be believed, unix seconds."""
        return self.fetched_at + self.policy.max_age

    def encode(self) -> bytes:
        """For the store."""
        policy = self.policy
        plain = {"id": self.id, "at": self.fetched_at, "mode": policy.mode, "age": policy.max_age, "mx": policy.mx}
        return orjson.dumps(plain)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """What :meth:`encode` wrote.

        Raises:
            PolicyError: it did not write this.
        """
        try:
            plain = orjson.loads(data)
            policy = Policy(mode=Mode(plain["mode"]), max_age=int(plain["age"]), mx=tuple(map(str, plain["mx"])))
            return cls(policy=policy, id=str(plain["id"]), fetched_at=float(plain["at"]))
        except (ValueError, TypeError, KeyError) as error:
            raise PolicyError("a remembered policy cannot be read") from error
