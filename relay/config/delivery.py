"""Settings of the sending side: resolver, trust, routes, pace, retries, DSNs and signatures."""

from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema, field_validator, model_validator

from relay.config.types import (
    AUTO,
    Boolean,
    Domain,
    DomainPattern,
    Duration,
    FilePath,
    Host,
    Integer,
    Ip,
    Name,
    Network,
    Number,
    OptionalIp,
    Port,
    Secret,
    Section,
    TlsFloor,
    refuse,
    setting,
    switch,
)


class DnsSettings(Section):
    """How names are looked up."""

    nameservers: tuple[Ip, ...] = setting(
        [], "Nameservers, tried in this order; empty: those of the system.", "list of IP addresses", max_length=20
    )
    port: Port = setting(53, "Port of the nameservers.", "port")
    timeout: Duration = setting("3s", "Wait for one nameserver's answer.", "duration", ge=0.1, le=60)
    lifetime: Duration = setting("12s", "Time for a look-up with all its retries.", "duration", ge=0.1, le=300)
    cache_entries: Integer = setting(
        20_000, "Answers a worker keeps; the least used go first.", "answers", ge=100, le=10_000_000
    )
    min_ttl: Duration = setting("5s", "Shortest time an answer is kept.", "duration", ge=0, le=3600)
    max_ttl: Duration = setting("1d", "Longest time an answer is kept.", "duration", ge=1, le=604_800)
    negative_ttl: Duration = setting("5m", "Longest time a negative answer is kept.", "duration", ge=1, le=86_400)
    failure_ttl: Duration = setting(
        "10s", "Time a failed look-up is remembered (RFC 9520 3.2: 1s to 5m).", "duration", ge=1, le=300
    )
    validating: Boolean = switch(
        "The nameservers validate DNSSEC and the way to them is safe (loopback): believe their AD bit.", on=False
    )

    @model_validator(mode="after")
    def _lifetime_holds_a_timeout(self) -> "DnsSettings":
        if self.lifetime < self.timeout:
            raise ValueError("lifetime is shorter than timeout|give lifetime room for at least one timeout")
        return self


class RouteAuthSettings(Section):
    """How we log in to a route's hosts."""

    username: str = setting(..., "User name.", min_length=1, max_length=255, examples=["clinic"])
    password_file: Secret = setting(
        ..., "File that holds the password, or credential:NAME.", examples=["secrets/smarthost"]
    )


class RouteSettings(Section):
    """A fixed next hop for some domains; the first route that matches is taken, before any MX look-up."""

    name: Name = setting(..., "Name in logs, and for the policy action route.", examples=["smarthost"])
    domains: tuple[DomainPattern, ...] = setting(
        [], "Recipient domains; *.x means below x, * all. Empty: only by a policy's route action.", "list of domains"
    )
    hosts: tuple[Host, ...] = setting(
        ..., "Hosts, tried in this order; each host or host:port.", min_length=1, max_length=100,
        examples=[["relay.example:587"]],
    )  # fmt: skip
    port: Port = setting(25, "Port of hosts that name none.", "TCP port")
    implicit_tls: Boolean = switch("TLS from the first octet (port 465) instead of STARTTLS.", on=False)
    tls: TlsFloor = setting(
        TlsFloor.VERIFIED, "The least its connection must reach: opportunistic, encrypted, verified or authenticated."
    )
    auth: RouteAuthSettings | None = setting(None, "How to log in there; null: not at all.")
    source: OptionalIp = setting(None, "IP address to connect from; null: as in delivery.", "IP address")
    internal: Boolean = switch(
        "Lies inside our own network: special-purpose addresses are allowed and our own DSNs may take it.", on=False
    )

    @model_validator(mode="after")
    def _password_is_protected(self) -> "RouteSettings":
        if self.auth and self.tls in (TlsFloor.OPPORTUNISTIC, TlsFloor.ENCRYPTED):
            raise ValueError(
                f"auth with tls: {self.tls} could give the password to a stranger|set tls: verified or authenticated"
            )
        return self


class RetrySettings(Section):
    """When a deferred copy is tried again."""

    first: Duration = setting("5m", "Wait after the first failure.", "duration", ge=0.1, le=86_400)
    max: Duration = setting("4h", "Longest wait.", "duration", ge=0.1, le=604_800)
    factor: Number = setting(2.0, "Each wait is the last one times this.", "factor", ge=1, le=10)
    jitter: Number = setting(0.2, "Random part of each wait, either way.", "share of 1", ge=0, le=0.9)

    @model_validator(mode="after")
    def _grows(self) -> "RetrySettings":
        if self.max < self.first:
            raise ValueError("max is shorter than first|make max the longest wait")
        return self


class TimeoutSettings(Section):
    """How long each phase of a delivery may wait for the other side (RFC 5321 4.5.3.2)."""

    connect: Duration = setting("30s", "TCP connection to one address.", "duration", ge=0.1, le=600)
    tls: Duration = setting("30s", "TLS handshake.", "duration", ge=0.1, le=600)
    greeting: Duration = setting("5m", "The 220 greeting.", "duration", ge=0.1, le=3600)
    ehlo: Duration = setting("5m", "The answer to EHLO, STARTTLS and AUTH.", "duration", ge=0.1, le=3600)
    mail: Duration = setting("5m", "The answer to MAIL FROM.", "duration", ge=0.1, le=3600)
    rcpt: Duration = setting("5m", "The answer to RCPT TO.", "duration", ge=0.1, le=3600)
    data: Duration = setting("2m", "The 354 after DATA.", "duration", ge=0.1, le=3600)
    block: Duration = setting("3m", "Each block of the message to be taken.", "duration", ge=0.1, le=3600)
    final: Duration = setting("10m", "The answer to the final dot.", "duration", ge=0.1, le=3600)
    quit: Duration = setting("5s", "The answer to QUIT.", "duration", ge=0.1, le=600)


class RequireTls(StrEnum):
    """What a sender's REQUIRETLS (RFC 8689) asks of the next server."""

    STRICT = "strict"
    """Verified TLS to a host that is vouched for, and REQUIRETLS itself: it passes the demand on."""
    RELAXED = "relaxed"
    """The first alone: few servers know REQUIRETLS."""


class DeliverySettings(Section):
    """How mail goes out."""

    port: Port = setting(25, "Port of the domains' mail servers; another one only makes sense in tests.", "TCP port")
    source_ipv4: OptionalIp = setting(None, "IPv4 address to connect from; null: the system's choice.", "IP address")
    source_ipv6: OptionalIp = setting(None, "IPv6 address to connect from; null: the system's choice.", "IP address")
    ipv4: Boolean = switch("Connect over IPv4.", on=True)
    ipv6: Boolean = switch("Connect over IPv6.", on=True)
    allowed_special_networks: tuple[Network, ...] = setting(
        [], "Special-purpose networks (RFC 6890: private, loopback ...) that DNS may lead us into.", "list of networks"
    )
    own_addresses: tuple[Ip, ...] = setting(
        [], "Addresses of ours that no interface here has (behind NAT): mail that DNS leads there would loop.",
        "list of IP addresses", max_length=1000,
    )  # fmt: skip
    connections: Integer = setting(500, "Open connections on this machine.", "connections", ge=1, le=100_000)
    concurrency_per_destination: Integer = setting(
        20, "Open connections to one destination on this machine.", "connections", ge=1, le=10_000
    )
    rate_per_destination: Integer = setting(
        0, "Messages to one destination on this machine; 0: only the other limits.", "messages a minute",
        ge=0, le=1_000_000,
    )  # fmt: skip
    messages_per_session: Integer = setting(100, "Messages on one connection.", "messages", ge=1, le=100_000)
    session_idle: Duration = setting(
        "20s", "How long an idle connection is kept for the next message.", "duration", ge=0, le=600
    )
    hosts_per_attempt: Integer = setting(10, "Mail servers tried in one attempt.", "hosts", ge=1, le=100)
    addresses_per_host: Integer = setting(4, "Addresses tried of one mail server.", "addresses", ge=1, le=100)
    in_hand: Integer = setting(200, "Entries a worker has in hand.", "entries", ge=1, le=100_000)
    attempt_deadline: Duration = setting("30m", "A whole attempt, all phases together.", "duration", ge=1, le=86_400)
    require_tls: RequireTls = setting(
        RequireTls.STRICT, "What a sender's REQUIRETLS asks of the next server: strict or relaxed."
    )
    expire: Duration = setting(
        "5d", "Age at which undelivered mail bounces; a policy rule may say otherwise.", "duration", ge=60, le=2_592_000
    )
    warn: Duration = setting(
        "4h", "Age at which the sender is told of the delay; 0: never.", "duration", ge=0, le=2_592_000
    )
    retry: RetrySettings = setting({}, "When a deferred copy is tried again.")
    timeouts: TimeoutSettings = setting({}, "How long each phase may wait for the other side.")

    @model_validator(mode="after")
    def _can_deliver(self) -> "DeliverySettings":
        faults = []
        if not (self.ipv4 or self.ipv6):
            faults.append(("ipv4 and ipv6 are both false, so no mail could go out", "set one of them to true"))
        if self.expire <= self.warn:
            faults.append(("warn is not before expire", "make warn shorter, or 0 for no warning"))
        refuse(faults)
        return self

    @field_validator("source_ipv4", "source_ipv6")
    @classmethod
    def _of_its_family(cls, value: object, info: object) -> object:
        version = 4 if str(getattr(info, "field_name", "")).endswith("4") else 6
        if value is not None and getattr(value, "version", 0) != version:
            raise ValueError(f"is not an IPv{version} address")
        return value


class DsnSettings(Section):
    """The delivery status notifications that we write (RFC 3464)."""

    postmaster: str = setting(
        AUTO, "Who gets double bounces and whom DSNs are from; auto: postmaster@HOSTNAME.", "mailbox"
    )
    from_name: str = setting(
        "Mail Delivery System", "Display name of DSNs.", "text", min_length=1, max_length=100, pattern=r"^[ -~]+$"
    )
    help: str = setting(
        "", "A sentence for the reader, such as whom to call.", "text", max_length=400, pattern=r"^[ -~]*$"
    )
    reporting_mta: str = setting(AUTO, "Reporting-MTA; auto: HOSTNAME.", "domain")


class DkimAlgorithm(StrEnum):
    """How a key signs."""

    RSA = "rsa"
    """RSA with SHA-256, 2048 bits or more (RFC 6376, RFC 8301)."""
    ED25519 = "ed25519"
    """Ed25519 (RFC 8463)."""


def _day(value: object) -> date | None:
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is not a day, such as 2027-01-31") from None


Day = Annotated[
    date | None,
    PlainValidator(_day),
    PlainSerializer(lambda value: value.isoformat() if value else None, return_type=str | None),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}),
]


class DkimKeySettings(Section):
    """One signing key; two whose days overlap make a rotation."""

    selector: Domain = setting(..., "Selector: the key's record is SELECTOR._domainkey.DOMAIN.", examples=["r2027"])
    algorithm: DkimAlgorithm = setting(DkimAlgorithm.RSA, "rsa or ed25519.")
    key: Secret = setting(..., "PEM file of the private key, or credential:NAME.", examples=["dkim/clinic.example.pem"])
    valid_from: Day = setting(None, "First day (UTC) it signs; null: always.", "date")
    valid_until: Day = setting(None, "First day (UTC) it signs no more; null: never.", "date")

    @model_validator(mode="after")
    def _in_order(self) -> "DkimKeySettings":
        if self.valid_from and self.valid_until and self.valid_until <= self.valid_from:
            raise ValueError("valid_until is not after valid_from|it would never sign")
        return self


class DkimDomainSettings(Section):
    """The keys of one signing domain."""

    domain: Domain = setting(..., "The domain (d=).", examples=["clinic.example"])
    keys: tuple[DkimKeySettings, ...] = setting(
        ..., "Its keys; one of each algorithm signs.", min_length=1, max_length=20,
        examples=[[{"selector": "r2027", "key": "dkim/clinic.example.pem"}]],
    )  # fmt: skip


class DkimSettings(Section):
    """DKIM signatures of outgoing mail."""

    dir: FilePath = setting(
        "dkim", "Directory of the keys that postern dkim new makes; it may be missing.", "directory"
    )
    domains: tuple[DkimDomainSettings, ...] = setting([], "Keys kept elsewhere, by domain.", "list of domains")
