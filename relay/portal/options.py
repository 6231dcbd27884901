"""What the portal is told at start: frozen, with the defaults that the documentation states."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.core.address import Address
from relay.portal.brand import Brand


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeOptions:
    """Codes that are mailed.

    Attributes:
        digits: of a code: 8 are 26.6 bits.
        life: seconds that a code works.
        tries: wrong answers that a code bears.
        again_after: seconds before the same browser gets another code for the same message: until then asking again
            changes nothing.
    """

    digits: int = 8
    life: float = 600.0
    tries: int = 5
    again_after: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How long a sign-in holds, in seconds.

    Attributes:
        idle: without use; then nothing is shown any more.
        warn: so long before that, the page warns.
        life: however busy it is.
        kept_locked: after ``idle``, in which a draft that was being written can still be kept.
        device: how long a browser is known that is not used.
        ceremony: how long a new key of an app, or a passkey's challenge, can be answered.
        fresh: how long after a sign-in the ways to sign in can be changed.
        sender: how long somebody who proved to be a sender sees what they sent.
    """

    idle: float = 900.0
    warn: float = 120.0
    life: float = 8 * 3600.0
    kept_locked: float = 3600.0
    device: float = 180 * 86400.0
    ceremony: float = 600.0
    fresh: float = 600.0
    sender: float = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most ``most`` in ``window`` seconds."""

    most: int
    window: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """How often. A network is an IPv4 /24 or an IPv6 /48 (``network_v4``, ``network_v6``).

    Attributes:
        codes_message: codes mailed for one message.
        codes_mailbox: codes mailed to one mailbox by the links of its messages.
        codes_sign_in: codes mailed to one mailbox that somebody typed at the sign-in page: a budget of its own, so that
            a stranger who knows an address keeps nobody from their message.
        codes_sign_in_day: the same, in a day: nobody's mailbox is flooded by somebody who types its address.
        codes_recovery: the same, of codes that are asked for in order to recover.
        codes_network: codes asked for from one network; counted apart for links and for the sign-in page, where
            anybody can ask.
        codes_all: codes asked for by everybody; counted apart as well.
        answers_mailbox: answers to a second factor, of one mailbox; those from browsers that never signed in for it
            are counted apart.
        answers_day: the same, in a day: the six digits of an app could be guessed in weeks otherwise.
        answers_network: answers (codes, second factors, passkeys) from one network.
        changes: of an account's factors, and recoveries, of one mailbox.
        recoveries: of one mailbox: each mails it and asks all its senders.
        written: replies and forwards of one mailbox: each may hold 20 MB, and goes to many.
        written_day: the same, in a day.
        searches: for a sender, of one mailbox: each looks at thousands of messages.
        recalls_network: of "this is not me", from one network.
        sender_acts: what one sender does about what they sent.
        sender_notices: that a sender has sent again, of one message to one mailbox.
        shared_tries: wrong answers to a shared secret before the sender must set a new one.
        network_v4, network_v6: prefix lengths.
    """

    codes_message: Rate = field(default=Rate(most=6, window=3600.0))
    codes_mailbox: Rate = field(default=Rate(most=12, window=3600.0))
    codes_sign_in: Rate = field(default=Rate(most=5, window=3600.0))
    codes_sign_in_day: Rate = field(default=Rate(most=20, window=86_400.0))
    codes_recovery: Rate = field(default=Rate(most=3, window=86_400.0))
    codes_network: Rate = field(default=Rate(most=60, window=3600.0))
    codes_all: Rate = field(default=Rate(most=20_000, window=3600.0))
    answers_mailbox: Rate = field(default=Rate(most=10, window=900.0))
    answers_day: Rate = field(default=Rate(most=40, window=86_400.0))
    answers_network: Rate = field(default=Rate(most=120, window=900.0))
    changes: Rate = field(default=Rate(most=20, window=3600.0))
    recoveries: Rate = field(default=Rate(most=3, window=86_400.0))
    written: Rate = field(default=Rate(most=30, window=3600.0))
    written_day: Rate = field(default=Rate(most=200, window=86_400.0))
    searches: Rate = field(default=Rate(most=60, window=900.0))
    recalls_network: Rate = field(default=Rate(most=20, window=3600.0))
    sender_acts: Rate = field(default=Rate(most=60, window=3600.0))
    sender_notices: Rate = field(default=Rate(most=3, window=86_400.0))
    shared_tries: int = 20
    network_v4: int = 24
    network_v6: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class PassphraseOptions:
    """Passphrases: length over composition rules (NIST SP 800-63B section 3.1.1.2), argon2id (RFC 9106).

    Attributes:
        least, most: characters, after NFKC.
        time_cost, memory_kib, lanes: of argon2id.
        at_once: how many are computed at the same time, each with ``memory_kib``.
        breached: a file of lines ``SHA1`` or ``SHA1:COUNT`` in upper-case hex, sorted; ``None``: the built-in rules
            only.
    """

    least: int = 12
    most: int = 256
    time_cost: int = 2
    memory_kib: int = 19 * 1024
    lanes: int = 1
    at_once: int = 2
    breached: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """A proxy in front.

    Attributes:
        networks: where proxies are, CIDR; only these are believed.
        header: ``x-forwarded-for``, ``forwarded``, or empty: none is read.
        protocol: connections begin with a PROXY protocol header (version 1 or 2), and are refused without.
    """

    networks: tuple[str, ...] = ()
    header: str = ""
    protocol: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalOptions:
    """All of it.

    Attributes:
        origin: scheme and host that people see, without a slash at its end: ``https://secure.clinic.example``.
        mail_from: the address that the portal's mail comes from.
        other_hosts: further values of the Host header that are answered, besides the origin's; lower case.
        brands: by tenant.
        brand: of tenants that have none.
        time_zone: in which pages write dates; a name of the IANA data base.
        max_form: octets of a form without files.
        max_upload: octets of a form with files.
        read_deadline: seconds for a request's body to arrive, and one more for every 16 KiB of it.
        plea_life: seconds that a sender can approve after a recovery.
    """

    origin: str
    mail_from: Address
    other_hosts: frozenset[str] = frozenset()
    brands: Mapping[str, Brand] = field(default_factory=dict)
    brand: Brand = field(default_factory=Brand)
    time_zone: str = "UTC"
    codes: CodeOptions = field(default_factory=CodeOptions)
    sessions: SessionOptions = field(default_factory=SessionOptions)
    limits: LimitOptions = field(default_factory=LimitOptions)
    passphrase: PassphraseOptions = field(default_factory=PassphraseOptions)
    proxy: ProxyOptions = field(default_factory=ProxyOptions)
    max_form: int = 64 * 1024
    max_upload: int = 36 * 1024 * 1024
    read_deadline: float = 60.0
    plea_life: float = 30 * 86400.0

    @property
    def host(self) -> str:
        """The origin's host, with its port where it has one."""
        return self.origin.partition("://")[2].lower()

    @property
    def rp_id(self) -> str:
        """The host alone: the scope of passkeys (WebAuthn's RP ID)."""
        return self.host.rpartition(":")[0] if self.host.rpartition(":")[2].isdigit() else self.host

    def brand_of(self, tenant: str) -> Brand:
        """How a tenant looks."""
        return self.brands.get(tenant, self.brand)
