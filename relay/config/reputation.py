"""Settings of what comes back: how answers are understood, and whom they suppress."""

from enum import StrEnum
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema, model_validator

from relay.config.types import Domain, Duration, FilePath, Integer, Mailbox, Section, Size, domain_name, refuse, setting
from relay.core.address import Address

OptionalDomain = Annotated[
    str | None,
    PlainValidator(lambda value: None if value is None else domain_name(value)),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]


class AutoReplies(StrEnum):
    """What becomes of automatic replies."""

    TELL = "tell"
    """Their sender's mail is answered by a notice of ours that one came, without its text."""
    DROP = "drop"
    """They are counted."""


class BounceSettings(Section):
    """How servers' answers and returned mail are understood."""

    rules: tuple[FilePath, ...] = setting(
        [], "Files of bounce rules that are asked before Postern's own; see docs/bounces.md.", "list of files",
        max_length=50,
    )  # fmt: skip


class ReturnSettings(Section):
    """Mail that comes back: signed return addresses, and addresses for reports; see docs/bounces.md."""

    domain: OptionalDomain = setting(
        None,
        "Mail leaves under signed senders at this domain of its own, whose MX leads here; null: senders stay as given.",
        "domain", examples=["return.clinic.example"],
    )  # fmt: skip
    by_sender: dict[Domain, Domain] = setting(
        {}, "Return domains by sending domain, for SPF that is aligned with each.", "domain: return domain",
        examples=[{"lab.example": "return.lab.example"}],
    )  # fmt: skip
    lifetime: Duration = setting(
        "14d", "How long a copy that left is remembered, and its return address takes mail.", "duration",
        ge=86_400, le=7_776_000,
    )  # fmt: skip
    bounces: tuple[Mailbox, ...] = setting(
        [], "Unsigned addresses for bounces: counted and told to the postmaster, nothing more.", "list of mailboxes"
    )
    complaints: tuple[Mailbox, ...] = setting([], "Addresses of feedback loops (ARF).", "list of mailboxes")
    dmarc: tuple[Mailbox, ...] = setting([], "Addresses for DMARC aggregate reports (rua).", "list of mailboxes")
    tls: tuple[Mailbox, ...] = setting([], "Addresses for SMTP TLS reports (rua of _smtp._tls).", "list of mailboxes")
    message_size: Size = setting(
        "10MiB", "Largest message from who is no client, then 552 5.3.4.", "size", ge=65536, le=16 << 20
    )
    messages_per_minute: Integer = setting(
        600, "Messages a minute from all who are no clients, then 450 4.7.1.", "messages a minute", ge=1, le=100_000
    )
    messages_per_hour: Integer = setting(
        10_000, "Messages an hour from all who are no clients, then 450 4.7.1.", "messages an hour",
        ge=1, le=10_000_000,
    )  # fmt: skip
    auto_replies: AutoReplies = setting(
        AutoReplies.TELL,
        "tell: the sender gets a notice without the reply's text; drop: automatic replies are counted.",
    )
    postmaster_notices: Integer = setting(
        20, "Notices a day to the postmaster of what could not be matched; 0: none.", "notices a day", ge=0, le=10_000
    )

    @property
    def domains(self) -> frozenset[str]:
        """All return domains."""
        return frozenset({self.domain or "", *self.by_sender.values()} - {""})

    def mailboxes(self) -> dict[str, str]:
        """Kind of report by mailbox, in lower case."""
        kinds = {"bounce": self.bounces, "complaint": self.complaints, "dmarc": self.dmarc, "tls": self.tls}
        return {Address.parse(one).key: kind for kind, given in kinds.items() for one in given}

    @model_validator(mode="after")
    def _addresses_apart(self) -> "ReturnSettings":
        given = [Address.parse(one) for one in (*self.bounces, *self.complaints, *self.dmarc, *self.tls)]
        keys = [one.key for one in given]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        inside = [one for one in given if one.domain in self.domains]
        refuse(
            [
                *((f"{key} is given for two kinds of reports", "give each kind its own") for key in twice),
                *((f"{one} is at a return domain, where all addresses are signed ones", "use another domain")
                  for one in inside),
            ]
        )  # fmt: skip
        return self


class SuppressionSettings(Section):
    """Mailboxes that refused mail for good, and recipients who complained, get no more for a while."""

    hard_bounce: Duration = setting(
        "90d", "How long a mailbox is suppressed that does not exist or is closed; 0: never.", "duration",
        ge=0, le=315_360_000,
    )  # fmt: skip
    complaint: Duration = setting(
        "365d", "How long a recipient who complained gets no more of that stream; 0: never.", "duration",
        ge=0, le=315_360_000,
    )  # fmt: skip
