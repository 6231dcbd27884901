"""Settings of the receiving side: listeners, what they may take in, and the systems that may send."""

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from relay.config.types import (
    AUTO,
    Boolean,
    DomainPattern,
    Duration,
    Integer,
    Ip,
    IPAddress,
    Mailbox,
    Name,
    Network,
    OptionalPath,
    OptionalSecret,
    Section,
    Size,
    TlsVersion,
    refuse,
    setting,
    switch,
)


class ListenerKind(StrEnum):
    """What a listener is for."""

    RELAY = "relay"
    """Mail from systems known by their network (port 25)."""
    SUBMISSION = "submission"
    """Mail from authenticated clients, STARTTLS (port 587, RFC 6409)."""
    SUBMISSIONS = "submissions"
    """Mail from authenticated clients, TLS from the first octet (port 465, RFC 8314)."""


class ListenerTls(StrEnum):
    """What a listener wants of TLS."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"
    IMPLICIT = "implicit"


class ListenerAuth(StrEnum):
    """What a listener wants of AUTH."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    OFF = "off"


class BareNewlines(StrEnum):
    """What a bare CR or LF in a message leads to."""

    REFUSE = "refuse"
    NORMALISE = "normalise"


_PORT: Final = {ListenerKind.RELAY: 25, ListenerKind.SUBMISSION: 587, ListenerKind.SUBMISSIONS: 465}
_TLS: Final = {
    ListenerKind.RELAY: ListenerTls.REQUIRED,
    ListenerKind.SUBMISSION: ListenerTls.REQUIRED,
    ListenerKind.SUBMISSIONS: ListenerTls.IMPLICIT,
}
_AUTH: Final = {
    ListenerKind.RELAY: ListenerAuth.OFF,
    ListenerKind.SUBMISSION: ListenerAuth.REQUIRED,
    ListenerKind.SUBMISSIONS: ListenerAuth.REQUIRED,
}


def _auto(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"const": AUTO}, schema]})


class ListenerSettings(Section):
    """One address and port that takes mail in."""

    name: Name = setting(..., "Name in logs, metrics and policies.", examples=["ehr"])
    kind: ListenerKind = setting(
        ...,
        "relay: from systems known by network; submission: STARTTLS and AUTH; submissions: TLS at once and AUTH.",
        examples=["submission"],
    )
    address: Ip = setting(..., "IP address to listen on; 0.0.0.0 or :: for all.", "IP address", examples=["127.0.0.1"])
    port: Annotated[Integer, _auto({"type": "integer", "minimum": 0, "maximum": 65535})] = setting(
        AUTO,
        "auto: 25 for relay, 587 for submission, 465 for submissions. 0: any free port.",
        "TCP port",
        ge=0,
        le=65535,
    )
    tls: Annotated[ListenerTls, _auto({"enum": [word.value for word in ListenerTls]})] = setting(
        AUTO, "none, optional or required (STARTTLS), implicit. auto: required; implicit for submissions."
    )
    certificate: OptionalPath = setting(
        None, "PEM file: the certificate, then its intermediates. Needed unless tls is none.", examples=["tls/cert.pem"]
    )
    key: OptionalSecret = setting(
        None, "PEM file of the certificate's private key, or credential:NAME.", examples=["tls/key.pem"]
    )
    minimum_tls: TlsVersion = setting("1.2", "Oldest TLS version taken: 1.2 or 1.3.", "TLS version")
    legacy_tls: Boolean = switch(
        "Take TLS 1.0 and 1.1 from old clinical software. Logged loudly and counted at every use.", on=False
    )
    auth: Annotated[ListenerAuth, _auto({"enum": [word.value for word in ListenerAuth]})] = setting(
        AUTO, "required, optional or off. auto: off for relay, else required. Never offered without TLS."
    )
    auth_equals: Boolean = switch(
        "Offer AUTH a second time as AUTH=PLAIN LOGIN, which old mail programs (Outlook Express, CDO) look for.",
        on=False,
    )
    networks: tuple[Network, ...] = setting(
        [], "Networks that may connect; empty: any. A relay listener must name them.", "list of networks"
    )
    trust_networks: dict[Network, Name] = setting(
        {}, "Network to client name: who connects from there is that client without AUTH. No other network is trusted.",
        "network: client name",
    )  # fmt: skip
    reports: Boolean = switch(
        "Take mail to return and report addresses (see returns) from anyone who may connect, without AUTH.", on=False
    )
    bare_newlines: BareNewlines = setting(
        BareNewlines.REFUSE, "A bare CR or LF in a message: refuse, or normalise to CRLF before anything else sees it."
    )
    max_connections: Integer = setting(1000, "Open connections a worker takes here.", "connections", ge=1, le=100_000)
    max_connections_per_address: Integer = setting(
        50,
        "Connections a worker takes from one IP address, TLS handshakes among them.",
        "connections",
        ge=1,
        le=100_000,
    )
    idle_timeout: Duration = setting(
        "5m", "Wait for the next command (RFC 5321 4.5.3.2.7 asks for 5m).", "duration", ge=1, le=3600
    )
    command_timeout: Duration = setting(
        "1m", "Time a begun command line, a TLS handshake or an AUTH exchange may take.", "duration", ge=1, le=3600
    )
    data_timeout: Duration = setting(
        "30m", "Time a whole message may take from 354 to the final dot.", "duration", ge=1, le=86_400
    )

    @field_validator("port", "tls", "auth", mode="before")
    @classmethod
    def _by_kind(cls, value: Any, info: ValidationInfo) -> Any:
        if value != AUTO:
            return value
        kind = info.data.get("kind", ListenerKind.SUBMISSION)
        by_kind: dict[str, Any] = {"port": _PORT, "tls": _TLS, "auth": _AUTH}
        return by_kind[str(info.field_name)][kind]

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "ListenerSettings":
        refuse([*self._tls_faults(), *self._report_faults(), *self._trust_faults()])
        return self

    def _tls_faults(self) -> Iterator[tuple[str, str]]:
        if (self.tls is ListenerTls.IMPLICIT) != (self.kind is ListenerKind.SUBMISSIONS):
            yield "tls: implicit and kind: submissions go together", "kind is submissions when TLS comes first"
        if self.tls is not ListenerTls.NONE and not (self.certificate and self.key):
            hint = "name both files, or say tls: none where the network protects the mail"
            yield f"tls is {self.tls} and certificate or key is missing", hint
        if self.tls is ListenerTls.NONE and self.auth is not ListenerAuth.OFF:
            yield "auth needs TLS: passwords never travel in the clear", "set tls, or auth: off"
        if self.auth_equals and self.auth is ListenerAuth.OFF:
            yield "auth_equals: true and auth: off contradict one another", "remove one of them"
        if self.legacy_tls and self.minimum_tls == "1.3":
            yield "legacy_tls and minimum_tls: 1.3 contradict one another", "remove one of them"

    def _report_faults(self) -> Iterator[tuple[str, str]]:
        if self.reports and self.kind is not ListenerKind.RELAY:
            yield "reports: true needs kind: relay: other mail servers do not log in", "give it a listener of its own"

    def _trust_faults(self) -> Iterator[tuple[str, str]]:
        if self.kind is ListenerKind.RELAY and not self.networks:
            what = "a relay listener must say which networks may connect"
            yield what, "networks: [10.20.0.0/16], or [0.0.0.0/0, ::/0]"
        for network in self.trust_networks:
            if network.prefixlen == 0:
                yield f"trust_networks: {network} would trust everyone", "name the client's own network"
            elif self.networks and not any(inside(network, allowed) for allowed in self.networks):
                yield f"trust_networks: {network} is not within networks, so it could not connect", "add it there"

    def admits(self, address: IPAddress) -> bool:
        """Whether a peer at ``address`` may connect at all."""
        return not self.networks or any(address in network for network in self.networks)


def inside(
    network: ipaddress.IPv4Network | ipaddress.IPv6Network, other: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    """Whether every address of ``network`` is one of ``other``."""
    return (
        network.version == other.version and network.network_address in other and network.prefixlen >= other.prefixlen
    )


class AuthSettings(Section):
    """How failed logins are slowed down."""

    failures_per_address: Integer = setting(
        10, "Failed AUTH from one IP address in a window until it is answered 454.", "failures", ge=1, le=10_000
    )
    failures_per_account: Integer = setting(
        20, "Failed AUTH for one client in a window until it is answered 454.", "failures", ge=1, le=10_000
    )
    window: Duration = setting("15m", "The window in which failures are counted.", "duration", ge=1, le=86_400)


class LimitSettings(Section):
    """What intake takes in; each limit has its own answer when it is reached."""

    message_size: Size = setting(
        "25MiB", "Largest message: announced as SIZE, then 552 5.3.4.", "size", ge=65536, le=1 << 30
    )
    recipients: Integer = setting(
        1000, "Recipients a message (RFC 5321 4.5.3.1.8 asks for 100 at least), then 452 4.5.3.", "recipients",
        ge=100, le=100_000,
    )  # fmt: skip
    bytes_in_flight: Size = setting(
        "256MiB", "Message bytes a worker holds that are not yet kept, then 452 4.3.1.", "size", ge=1 << 20, le=1 << 40
    )
    connections: Integer = setting(
        2000, "Open connections a worker takes on all listeners, then 421 4.3.2.", "connections", ge=1, le=100_000
    )
    command_line: Size = setting(
        "2KiB", "Longest command line (RFC 5321 and what is offered ask for 1200B), then 500 5.5.2.", "size",
        ge=1200, le=65536,
    )  # fmt: skip
    auth_line: Size = setting(
        "12KiB", "Longest line of an AUTH exchange (RFC 4954 section 4 asks for 12288B), then 500 5.5.6.", "size",
        ge=1024, le=65536,
    )  # fmt: skip
    message_line: Size = setting(
        "64KiB", "Longest line of a message (RFC 5321 4.5.3.1.6 asks for 1000B), then 554 5.6.0.", "size",
        ge=1000, le=1 << 24,
    )  # fmt: skip
    messages_per_connection: Integer = setting(
        1000, "Messages a connection may send, then 421 4.7.0.", "messages", ge=1, le=1_000_000
    )
    commands_per_connection: Integer = setting(
        20_000, "Commands a connection may send, then 421 4.7.0.", "commands", ge=100, le=10_000_000
    )
    idle_commands_per_connection: Integer = setting(
        100, "NOOP, RSET, EHLO and the like between two messages, then 421 4.7.0.", "commands", ge=10, le=100_000
    )
    auth_failures_per_connection: Integer = setting(
        3, "Failed AUTH on one connection, then 421 4.7.0.", "failures", ge=1, le=100
    )
    errors_per_connection: Integer = setting(
        20, "Refused commands a connection may send, then 421 4.7.0.", "commands", ge=1, le=10_000
    )
    header_size: Size = setting("256KiB", "Largest header section, then 552 5.3.4.", "size", ge=16384, le=1 << 24)
    mime_depth: Integer = setting(
        20, "MIME parts inside one another that are read; deeper ones are unreadable.", "levels", ge=2, le=100
    )
    mime_parts: Integer = setting(
        500, "MIME parts of a message that are read; more are unreadable.", "parts", ge=10, le=100_000
    )
    received_hops: Integer = setting(
        100,
        "Received headers before a message counts as looping (RFC 5321 6.3), then 554 5.4.6.",
        "hops",
        ge=10,
        le=1000,
    )
    queue_size: Size = setting("20GiB", "Bytes of mail in the queue, then 452 4.3.1.", "size", ge=1 << 20, le=1 << 50)
    disk_reserve: Size = setting(
        "1GiB", "Free space under data_dir that is never used for new mail: then 452 4.3.1.", "size", ge=0, le=1 << 50
    )


def _moment(value: object) -> datetime | None:
    if value is None or isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is not a time, such as 2027-01-31T12:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[
    datetime | None,
    PlainValidator(_moment),
    PlainSerializer(lambda value: value.isoformat() if value else None, return_type=str | None),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}),
]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ClientSettings(Section):
    """A system that may send: an EHR, a lab system. One file each in ``clients_dir``, named ``NAME.yaml``."""

    name: Name = setting(
        ..., "The client's name, and its AUTH user name; the file is NAME.yaml.", examples=["main-ehr"]
    )
    tenant: Name = setting(..., "The tenant it belongs to.", examples=["clinic"])
    secret_sha256: Sha256 = setting(
        ...,
        "SHA-256 (hex) of the generated secret of 256 random bits; made by postern client add.",
        examples=["0" * 64],
    )
    previous_secret_sha256: Sha256 | None = setting(
        None, "SHA-256 (hex) of the secret before the last rotation; good until previous_until."
    )
    previous_until: Moment = setting(None, "When the previous secret ends.", "UTC time")
    senders: tuple[Mailbox, ...] = setting([], "Mailboxes it may send as.", "list of mailboxes")
    sender_domains: tuple[DomainPattern, ...] = setting(
        [], "Domains it may send as; *.x means below x.", "list of domains", examples=[["clinic.example"]]
    )
    null_sender: Boolean = switch("May send with the null sender <> (receipts, notifications).", on=True)
    check_from: Boolean = switch("Its From field, too, must be a mailbox it may send as.", on=False)
    networks: tuple[Network, ...] = setting([], "Networks it may connect from; empty: any.", "list of networks")
    messages_per_minute: Integer = setting(
        600, "Messages a minute, then 450 4.7.1.", "messages a minute", ge=1, le=1_000_000
    )
    messages_per_hour: Integer = setting(
        10_000, "Messages an hour, then 450 4.7.1.", "messages an hour", ge=1, le=100_000_000
    )
    message_size: Size | None = setting(
        None, "Largest message of this client; null: as limits.message_size.", "size", ge=1024, le=1 << 30
    )
    recipients: Integer | None = setting(
        None, "Recipients a message of this client; null: as limits.recipients.", "recipients", ge=1, le=100_000
    )
    stream: str = setting("transactional", "transactional or bulk.", pattern="^(transactional|bulk)$")

    @model_validator(mode="after")
    def _may_send_as_someone(self) -> "ClientSettings":
        faults = []
        if not self.senders and not self.sender_domains:
            faults.append(("may send as nobody: senders and sender_domains are empty", "name a sender or a domain"))
        if "*" in self.sender_domains:
            faults.append(("sender_domains: * would let it send as anyone", "name the domains"))
        if (self.previous_secret_sha256 is None) != (self.previous_until is None):
            faults.append(("previous_secret_sha256 and previous_until go together", "give both or neither"))
        refuse(faults)
        return self
