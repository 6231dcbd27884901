"""The envelope of a message as intake took it, and the facts that policy judges."""

from dataclasses import dataclass, field
from enum import StrEnum

from relay.core.address import Address, ReversePath
from relay.core.phi import PhiVerdict


class Origin(StrEnum):
    """Where a message comes from. All but ``CLIENT`` are our own: they skip policy and have a fixed floor."""

    CLIENT = "client"
    DSN = "dsn"
    RECEIPT = "receipt"
    NOTICE = "notice"
    REPORT = "report"
    RETURNED = "returned"
    """Sent to a return or report address of ours: read here, and it goes nowhere."""
    PORTAL = "portal"
    """Codes, reminders and news of an account: they say no more of a patient than the portal's first notice."""
    REPLY = "reply"
    """What a reader of the portal wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """One RCPT TO.

    Attributes:
        address: the mailbox.
        original: ORCPT as given (RFC 3461), or empty.
        notify: NOTIFY as given, upper case; empty means the default (failure and delay).
    """

    address: Address
    original: str = ""
    notify: frozenset[str] = frozenset()

    def wants(self, what: str) -> bool:
        """Whether the sender wants to hear of ``SUCCESS``, ``FAILURE`` or ``DELAY``.

        Without NOTIFY failures and delays are told (RFC 3461 section 4.1).
        """
        return what in self.notify if self.notify else what != "SUCCESS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What MAIL FROM and RCPT TO said.

    Attributes:
        body_8bit: BODY=8BITMIME was given (RFC 6152).
        smtputf8: SMTPUTF8 was given (RFC 6531).
        require_tls: REQUIRETLS was given (RFC 8689).
        envelope_id: ENVID (RFC 3461), or empty.
        ret: RET, ``FULL`` or ``HDRS``, or empty.
    """

    reverse_path: ReversePath
    recipients: tuple[Recipient, ...]
    body_8bit: bool = False
    smtputf8: bool = False
    require_tls: bool = False
    envelope_id: str = ""
    ret: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSession:
    """Who gave us a message: what intake knows of the SMTP session.

    Attributes:
        client: the configured client's name; empty for mail of our own.
        tenant: the client's tenant.
        listener: the listener's name.
        network: the peer's IP address as text.
        identity: the authenticated identity (AUTH or certificate), empty when none.
        helo: what the peer called itself.
        tls_version: of the incoming connection; empty in the clear.
        tls_cipher: its cipher suite.
        esmtp: whether the peer said EHLO, not HELO.
    """

    client: str = ""
    tenant: str = ""
    listener: str = ""
    network: str = ""
    identity: str = ""
    helo: str = ""
    tls_version: str = ""
    tls_cipher: str = ""
    esmtp: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """What a policy can say of an attachment; the name is judged in memory and never stored or logged.

    Attributes:
        type: what it is by content: ``pdf``, ``hl7v2``, ``c-cda``, ``fhir``, ``dicom``, ``zip``, or its MIME type.
        name: file name as given.
        size: decoded octets.
        unreadable: the reason why its content could not be scanned, or empty.
    """

    type: str
    name: str
    size: int
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """Everything a policy condition can look at, save the recipient: evaluated once a recipient.

    Attributes:
        session: who gave it.
        envelope: the envelope; conditions on the recipient get their recipient apart.
        subject: decoded Subject.
        headers: (lower-case name, decoded value) in order.
        size: octets of the message as kept.
        verdict: the scan's answer.
        attachments: what is attached.
        stream: ``transactional`` unless the client says ``bulk``.
        received_at: unix seconds, UTC.
    """

    session: ClientSession
    envelope: Envelope
    subject: str
    headers: tuple[tuple[str, str], ...]
    size: int
    verdict: PhiVerdict
    attachments: tuple[Attachment, ...] = ()
    stream: str = "transactional"
    received_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it is kept: once for all its recipients.

    Attributes:
        id: the queue id, sortable by time; it is in ``250 2.0.0 Ok: queued as ID`` and in every log line.
        origin: whose mail it is.
        received_at: unix seconds, UTC.
        session, envelope: as intake took them.
        size: octets of the content.
        verdict: the scan's answer (sealed at rest).
        message_id: the Message-ID header's value, for DSNs; bounded to 255 characters.
        subject_tags: subject tags that the deciding rules removed.
    """

    id: str
    origin: Origin
    received_at: float
    session: ClientSession
    envelope: Envelope
    size: int
    verdict: PhiVerdict = field(default_factory=PhiVerdict)
    message_id: str = ""
    attachments: tuple[Attachment, ...] = ()
    stream: str = "transactional"
