"""The kinds of values that settings hold, each with its reader, its JSON form and its place in the JSON Schema."""

import ipaddress
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from relay.config.secret import SecretFile, parse_secret
from relay.config.units import (
    DURATION_PATTERN,
    SIZE_PATTERN,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
)
from relay.core.address import Address, normalise_domain
from relay.core.errors import AddressError

ROUTE_PREFIX: Final = "route:"
AUTO: Final = "auto"
"""The word for "work it out": from the machine, the listener's kind or another setting."""

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Section(BaseModel):
    """A part of the configuration: frozen, closed against unknown keys; written without content it is all defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_is_defaults(cls, data: Any) -> Any:
        return {} if data is None else data


def setting(default: Any, description: str, unit: str = "", **more: Any) -> Any:
    """A setting: its default (``...`` when it must be given), what it does, its unit, and bounds as for ``Field``."""
    return Field(default, description=description, json_schema_extra={"unit": unit} if unit else None, **more)


def refuse(faults: Iterable[tuple[str, str]]) -> None:
    """Tell all faults of a section at once, each (what, hint).

    Raises:
        ValueError: there is one at least; a fault a line, its hint after a bar, as ``complaints`` reads them.
    """
    told = [f"{what}|{hint}" for what, hint in faults]
    if told:
        raise ValueError("\n".join(told))


def switch(description: str, *, on: bool) -> Any:
    """A setting that is true or false; ``on`` is its default."""
    return setting(on, description, "true or false")


def _base(info: ValidationInfo) -> Path:
    return info.context["base"] if isinstance(info.context, dict) and "base" in info.context else Path.cwd()


def _path(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not value or "\0" in value or "\n" in value:
        raise ValueError("must be a path")
    return Path(os.path.normpath(_base(info) / value))


def _auto_path(value: object, info: ValidationInfo) -> Path:
    return Path(AUTO) if value in (AUTO, Path(AUTO)) else _path(value, info)


def _optional_path(value: object, info: ValidationInfo) -> Path | None:
    return None if value is None else _path(value, info)


def _secret(value: object, info: ValidationInfo) -> SecretFile:
    return parse_secret(value, _base(info))


def _optional_secret(value: object, info: ValidationInfo) -> SecretFile | None:
    return None if value is None else _secret(value, info)


def _address(value: object) -> IPAddress:
    try:
        return ipaddress.ip_address(value if isinstance(value, str) else str(value))
    except ValueError:
        raise ValueError("is not an IP address, such as 192.0.2.1 or 2001:db8::1") from None


def _optional_mailbox(value: object) -> str | None:
    return None if value is None else _mailbox(value)


def _optional_address(value: object) -> IPAddress | None:
    return None if value is None else _address(value)


def _network(value: object) -> IPNetwork:
    text = str(value)
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        loose = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network, such as 10.20.0.0/16 or 2001:db8::/32") from None
    alone = text.partition("/")[0]
    raise ValueError(f"is an address inside a network|write {loose} for the network, or {alone} for the address alone")


def domain_pattern(value: object) -> str:
    """A domain in A-labels, ``*.domain`` for all below it, or ``*`` for all.

    Raises:
        ValueError: not a domain.
    """
    if value == "*":
        return "*"
    text = value if isinstance(value, str) else ""
    star, rest = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    return star + domain_name(rest)


def domain_name(value: object) -> str:
    """A domain in lower-case A-labels.

    Raises:
        ValueError: not a domain, or an address literal.
    """
    try:
        name = normalise_domain(value if isinstance(value, str) else "")
    except AddressError:
        raise ValueError("is not a domain|write it as in clinic.example") from None
    if name.startswith("["):
        raise ValueError("is an address literal: write a domain")
    return name


def _mailbox(value: object) -> str:
    try:
        return str(Address.parse(value if isinstance(value, str) else ""))
    except AddressError as error:
        raise ValueError(f"is not a mailbox: {error}") from None


_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")


def name_of(value: object) -> str:
    """A name of up to 63 lower-case letters, digits, ``-`` and ``_``.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str) or not _NAME.match(value):
        raise ValueError("is not a name: up to 63 lower-case letters, digits, - and _, such as main-ehr")
    return value


@dataclass(frozen=True, slots=True)
class HostPort:
    """``host:port``; ``[2001:db8::1]:25`` for an IPv6 address; ``port`` 0 when none was written."""

    host: str
    port: int = 0

    @classmethod
    def parse(cls, value: object) -> "HostPort":
        """Read ``host``, ``host:port``, ``192.0.2.1:25`` or ``[2001:db8::1]:25``.

        Raises:
            ValueError: anything else.
        """
        if isinstance(value, cls):
            return value
        text = value if isinstance(value, str) else ""
        match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/\s]+))(?::([0-9]{1,5}))?", text)
        port = int(match[3]) if match and match[3] else 0
        if not match or port > 65535 or (match[3] and port == 0):
            raise ValueError("is not host:port, such as relay.example:587, 192.0.2.1:25 or [2001:db8::1]:25")
        if match[1]:
            return cls(str(_address(match[1])), port)
        try:
            return cls(str(ipaddress.ip_address(match[2])), port)
        except ValueError:
            return cls(domain_name(match[2]), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


def _tls_version(value: object) -> str:
    text = str(value)
    if text not in {"1.2", "1.3"}:
        raise ValueError("must be 1.2 or 1.3")
    return text


_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}\Z")


def _fingerprint(value: object) -> str:
    """Hex, with or without colons, as ``openssl x509 -fingerprint -sha256`` prints it."""
    text = value.replace(":", "").lower() if isinstance(value, str) else ""
    if not _FINGERPRINT.match(text):
        raise ValueError("is not a SHA-256 fingerprint: 64 hexadecimal digits, colons allowed")
    return text


def _destination(value: object) -> str:
    if isinstance(value, str) and value.startswith(ROUTE_PREFIX):
        return ROUTE_PREFIX + name_of(value.removeprefix(ROUTE_PREFIX))
    return domain_pattern(value)


def _text(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", **schema})


def _nullable(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "string", **schema}, {"type": "null"}]})


_AS_TEXT: Final = PlainSerializer(str, return_type=str)
_AS_TEXT_OR_NONE: Final = PlainSerializer(lambda value: None if value is None else str(value), return_type=str | None)

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    _text({"pattern": DURATION_PATTERN}),
]
"""Seconds, written ``15m``."""
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str),
    _text({"pattern": SIZE_PATTERN}),
]
"""Bytes, written ``25MiB``."""
Integer = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Boolean = Annotated[bool, Strict()]
FilePath = Annotated[Path, PlainValidator(_path), _AS_TEXT, _text({})]
"""A path; a relative one counts from the directory of the configuration file."""
AutoPath = Annotated[Path, PlainValidator(_auto_path), _AS_TEXT, _text({})]
OptionalPath = Annotated[Path | None, PlainValidator(_optional_path), _AS_TEXT_OR_NONE, _nullable({})]
Secret = Annotated[SecretFile, PlainValidator(_secret), _AS_TEXT, _text({})]
OptionalSecret = Annotated[SecretFile | None, PlainValidator(_optional_secret), _AS_TEXT_OR_NONE, _nullable({})]
Ip = Annotated[IPAddress, PlainValidator(_address), _AS_TEXT, _text({})]
OptionalIp = Annotated[IPAddress | None, PlainValidator(_optional_address), _AS_TEXT_OR_NONE, _nullable({})]
Network = Annotated[IPNetwork, PlainValidator(_network), _AS_TEXT, _text({})]
Domain = Annotated[str, PlainValidator(domain_name), _text({})]
DomainPattern = Annotated[str, PlainValidator(domain_pattern), _text({})]
Mailbox = Annotated[str, PlainValidator(_mailbox), _text({})]
OptionalMailbox = Annotated[str | None, PlainValidator(_optional_mailbox), _nullable({})]
Name = Annotated[str, PlainValidator(name_of), _text({"pattern": "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"})]
Host = Annotated[HostPort, PlainValidator(HostPort.parse), _AS_TEXT, _text({})]
TlsVersion = Annotated[str, PlainValidator(_tls_version), WithJsonSchema({"enum": ["1.2", "1.3", 1.2, 1.3]})]
Destination = Annotated[str, PlainValidator(_destination), _text({})]
"""A domain pattern, or ``route:NAME``."""
Fingerprint = Annotated[str, PlainValidator(_fingerprint), _text({"pattern": "^([0-9A-Fa-f]{2}:?){31}[0-9A-Fa-f]{2}$"})]
"""SHA-256 in hex, lower case."""
Port = Annotated[int, Strict(), Field(ge=1, le=65535)]


class TlsFloor(StrEnum):
    """The least a route's connection must reach, in the words of a policy."""

    OPPORTUNISTIC = "opportunistic"
    ENCRYPTED = "encrypted"
    VERIFIED = "verified"
    AUTHENTICATED = "authenticated"
