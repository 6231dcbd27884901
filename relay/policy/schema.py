"""The format of policy files; the JSON Schema for editors is made from these models, its help from the descriptions."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from relay.core.decision import MethodName, Otherwise
from relay.policy import units

LevelWord = Literal["clear", "encrypted", "verified", "authenticated"]
TlsWord = Literal["opportunistic", "clear", "encrypted", "verified", "authenticated"]
PhiWord = Literal["none", "possible", "likely", "certain"]
DayWord = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]

_PROTECTED_HEADERS: Final = frozenset(
    {"from", "to", "cc", "date", "message-id", "mime-version", "received", "dkim-signature", "return-path", "subject"}
)


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


def _known_header(name: str) -> str:
    if name.lower() in _PROTECTED_HEADERS or name.lower().startswith("content-"):
        raise ValueError(f"`{name}` belongs to the message's structure and cannot be changed by a rule")
    return name


Words = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...],
    BeforeValidator(_many, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]
"""One word or a list of words, of which any may match."""
FileName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]{1,500}$")]
Duration = Annotated[float, BeforeValidator(units.duration, json_schema_input_type=str)]
Wait = Annotated[Duration, AfterValidator(units.between(0, "30d"))]
Life = Annotated[Duration, AfterValidator(units.between(1, "30d"))]
PortalLife = Annotated[Duration, AfterValidator(units.between(1, "366d"))]
Size = Annotated[int, BeforeValidator(units.octets, json_schema_input_type=str)]
HeaderName = Annotated[str, Field(pattern=r"^[!-9;-~]{1,76}$")]
EditedHeader = Annotated[HeaderName, AfterValidator(_known_header)]
HeaderValue = Annotated[str, Field(pattern=r"^[ -~]{1,900}$")]
PublicText = Annotated[str, Field(pattern=r"^[ -~]{1,300}$")]


class Model(BaseModel):
    """Base: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False, strict=False)


class OneOf(Model):
    """Base of mappings of which some keys must be there, and of which none may be empty."""

    @model_validator(mode="before")
    @classmethod
    def _something(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not value:
            raise ValueError(f"says nothing; give one of: {', '.join(cls.keys())}")
        return value

    @classmethod
    def keys(cls) -> tuple[str, ...]:
        """The keys as they stand in a file."""
        return tuple(field.alias or name for name, field in cls.model_fields.items())


# --- conditions -------------------------------------------------------


class DomainMatch(OneOf):
    """Which domains. Given keys are alternatives."""

    is_: Words | None = Field(None, alias="is", description="Domains; `*.x` means below x, not x itself.")
    in_: Words | None = Field(None, alias="in", description="Names of lists.")
    near: Words | None = Field(None, description="Names of lists: one typing slip away from a member, and none itself.")


def _domain(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"is": value}


Domains = Annotated[DomainMatch, BeforeValidator(_domain, json_schema_input_type=str | list[str] | DomainMatch)]


class ClientCondition(OneOf):
    """The system that handed the message in. All given keys must hold."""

    name: Words | None = Field(None, description="Names of configured clients.")
    network: Words | None = Field(None, description="IP addresses or networks in CIDR form.")
    identity: Words | None = Field(None, description="Authenticated identities.")
    listener: Words | None = Field(None, description="Names of listeners.")
    tenant: Words | None = Field(None, description="Names of tenants.")


class MailboxCondition(OneOf):
    """A mailbox of the envelope. All given keys must hold."""

    address: Words | None = Field(None, description="Whole addresses; case does not matter.")
    domain: Domains | None = Field(None, description="Its domain: a pattern, a list of patterns, or {in:} {near:}.")
    in_: Words | None = Field(None, alias="in", description="Names of lists that hold the address or its domain.")


class SubjectCondition(OneOf):
    """The decoded subject. All given keys must hold."""

    tag: Words | None = Field(
        None, description="Tags such as [secure]; a tag that decides is removed from the subject."
    )
    matches: Words | None = Field(None, description="RE2 regular expressions, found anywhere; (?i) ignores case.")


class HeaderCondition(Model):
    """A header field, any of that name. All given keys must hold."""

    name: HeaderName = Field(description="The field's name; case does not matter.")
    matches: Words | None = Field(None, description="RE2 regular expressions over the decoded value.")
    contains: Words | None = Field(None, description="Texts in the decoded value; case does not matter.")
    present: bool | None = Field(None, description="Whether there is such a field at all.")

    @model_validator(mode="after")
    def _one(self) -> "HeaderCondition":
        if self.matches is None and self.contains is None and self.present is None:
            raise ValueError("says nothing of the header; give one of: matches, contains, present")
        return self


class SizeCondition(OneOf):
    """A size. Both given keys must hold."""

    over: Size | None = Field(None, description="More than this: 10MiB.")
    under: Size | None = Field(None, description="Less than this: 10MiB.")


class FindingCondition(OneOf):
    """What the scan found. Findings are counted that meet both kind and sensitive."""

    kind: Words | None = Field(
        None, description="Kinds (ssn, mrn, icd10) or groups (identifier, health, provider, structure, unreadable)."
    )
    sensitive: Words | None = Field(
        None, description="Specially protected kinds: mental-health, hiv, substance-use, reproductive, genetic; or any."
    )
    count: Annotated[int, Field(ge=1, le=100_000)] = Field(1, description="At least so many.")


class AttachmentCondition(OneOf):
    """One attachment that meets all given keys."""

    type: Words | None = Field(None, description="By content: hl7v2, c-cda, fhir, dicom, pdf, zip, or image/*.")
    name: Words | None = Field(None, description="File names, with * and ?; case does not matter.")
    size: SizeCondition | None = Field(None, description="Decoded size.")
    unreadable: bool | None = Field(None, description="Whether its content could not be scanned.")


class TimeCondition(OneOf):
    """When the message was received. All given keys must hold."""

    days: (
        Annotated[tuple[DayWord, ...], BeforeValidator(_many, json_schema_input_type=DayWord | list[DayWord])] | None
    ) = Field(None, description="Days of the week.")
    hours: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")] | None = Field(
        None, description="From-until on the clock: 08:00-18:00; 18:00-08:00 goes over midnight."
    )
    zone: str = Field("UTC", description="Time zone: Europe/Berlin, America/Chicago.")


class Condition(OneOf):
    """One condition. To combine several use all, any and not."""

    all: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = Field(None, description="Each of them.")
    any: Annotated[tuple["Condition", ...], Field(min_length=1)] | None = Field(None, description="At least one.")
    not_: "Condition | None" = Field(None, alias="not", description="The opposite.")
    client: ClientCondition | None = Field(None, description="Who handed the message in.")
    sender: MailboxCondition | None = Field(None, description="The envelope's sender.")
    recipient: MailboxCondition | None = Field(None, description="This copy's recipient.")
    subject: SubjectCondition | None = Field(None, description="The subject.")
    header: HeaderCondition | None = Field(None, description="A header field.")
    size: SizeCondition | None = Field(None, description="The message's size.")
    phi: PhiWord | None = Field(None, description="The verdict is at least this.")
    subject_phi: PhiWord | None = Field(None, description="The verdict over the subject alone is at least this.")
    finding: FindingCondition | None = Field(None, description="What the scan found.")
    floor: Words | None = Field(None, description="Ids of floors, one of which holds for this copy.")
    attachment: AttachmentCondition | None = Field(None, description="What is attached.")
    stream: Literal["transactional", "bulk"] | None = Field(None, description="The message's stream.")
    time: TimeCondition | None = Field(None, description="When it was received.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and len(value) > 1 and set(value) <= set(cls.keys()):
            given = ", ".join(f"{{ {key}: ... }}" for key in value)
            raise ValueError(f"more than one condition side by side; write all: [ {given} ]")
        return value


# --- actions ----------------------------------------------------------


class Deliver(Model):
    """Deliver by the first method that is available and meets the floor."""

    methods: Annotated[
        tuple[MethodName, ...],
        BeforeValidator(_many, json_schema_input_type=MethodName | list[MethodName]),
        Field(min_length=1),
    ] = Field((MethodName.TLS,), description="Methods in order: smime, pgp, tls, portal.")
    tls: TlsWord | None = Field(None, description="The least the connection must reach for the method tls.")
    within: Wait | None = Field(None, description="Time for one method to reach the level before the next: 15m.")
    otherwise: Otherwise = Field(Otherwise.BOUNCE, description="When no method is left: defer, hold or bounce.")
    expire: Life | None = Field(None, description="Time after which the copy bounces as expired: 5d; at most 30d.")
    warn_after: Wait | None = Field(None, description="When the sender is told of the delay: 4h; 0s: never.")
    priority: Literal["bulk", "ordinary", "urgent"] = Field("ordinary", description="Place in the queue.")
    mask_subject: PhiWord | None = Field(
        None,
        description="Replace the subject of the copy that travels when the verdict over the subject alone is at least "
        "this; none: always. In the portal it stays.",
    )
    tls_required_no: bool = Field(
        default=False,
        description="Heed a message's `TLS-Required: No`: MTA-STS and DANE of the recipient's domain are passed over, "
        "floors stay.",
    )

    @model_validator(mode="after")
    def _can_be_passed_over(self) -> "Deliver":
        if self.tls_required_no and self.tls == "authenticated":
            raise ValueError("tls_required_no passes over what vouches for a server; it cannot go with authenticated")
        return self


class Portal(Model):
    """What holds for a copy that comes to the portal."""

    reply: bool = Field(default=True, description="Whether its reader may answer.")
    forward: bool = Field(default=False, description="Whether its reader may forward it.")
    secret: Literal["none", "enrolled", "shared"] | None = Field(
        None,
        description="What opens it beside the mailed code: none; enrolled: a passphrase, passkey or TOTP of the "
        "reader's own; shared: a secret that sender or clinic set. Not given: none, and shared for specially protected "
        "kinds.",
    )
    receipts: bool = Field(default=False, description="Tell the sender what becomes of it, also unasked.")
    expire: PortalLife | None = Field(None, description="Time it stays in the portal: 30d; at most 366d.")


class Hold(Model):
    """Keep the copy for an operator's release."""

    reason: Annotated[str, Field(min_length=1, max_length=300)] = Field(description="Shown to operators.")


class Reject(Model):
    """Refuse the copy."""

    reason: PublicText = Field(description="Public text: the sender reads it. Printable ASCII, one line.")


class Override(Model):
    """Set aside floors that allow it."""

    floors: Annotated[tuple[str, ...], BeforeValidator(_many, json_schema_input_type=str | list[str])] = Field(
        min_length=1, description="Ids of floors that are overridable."
    )
    reason: Annotated[str, Field(min_length=8, max_length=300)] = Field(description="Why this is lawful; audited.")


class Rule(Model):
    """What becomes of a copy that meets the condition. The first rule that matches decides."""

    id: Id = Field(description="Short and stable: it is in logs, metrics and the audit trail.")
    description: str = Field("", description="For people.")
    when: Condition | None = Field(None, description="Without it the rule always matches.")
    deliver: Deliver | None = Field(None, description="Deliver by a method.")
    hold: Hold | None = Field(None, description="Keep for an operator's release.")
    reject: Reject | None = Field(None, description="Refuse with a public text.")
    portal: Portal | None = Field(None, description="What holds for the copy in the portal.")
    override: Override | None = Field(None, description="Set aside overridable floors.")
    add_header: dict[EditedHeader, HeaderValue] = Field(default={}, description="Header fields to add.")
    remove_header: Annotated[
        tuple[EditedHeader, ...], BeforeValidator(_many, json_schema_input_type=str | list[str])
    ] = Field((), description="Names of header fields to remove.")
    route: str = Field("", description="Name of the next hop or source pool to use.", max_length=64)
    sign: str = Field("", description="Domain to sign with by DKIM; the author's domain when not given.")
    notify: Annotated[tuple[str, ...], BeforeValidator(_many, json_schema_input_type=str | list[str])] = Field(
        (), max_length=10, description="Addresses told of the decision."
    )

    @model_validator(mode="after")
    def _one_action(self) -> "Rule":
        actions = [name for name in ("deliver", "hold", "reject") if getattr(self, name) is not None]
        if len(actions) != 1:
            found = " and ".join(actions) if actions else "none"
            raise ValueError(f"a rule needs exactly one of deliver, hold, reject; found {found}")
        if self.override and not self.deliver:
            raise ValueError("override only makes sense with deliver")
        if self.portal and (self.deliver is None or MethodName.PORTAL not in self.deliver.methods):
            raise ValueError("portal only makes sense with deliver and the method portal")
        if self.reject and (self.add_header or self.remove_header or self.route or self.sign):
            raise ValueError("a rejected copy is never rendered: remove add_header, remove_header, route and sign")
        return self


class Floor(Model):
    """A guarantee: no rule and no fallback goes below it."""

    id: Id = Field(description="Short and stable.")
    description: str = Field("", description="For people.")
    when: Condition | None = Field(None, description="Without it the floor holds for all mail.")
    require: LevelWord = Field(description="clear < encrypted < verified < authenticated.")
    overridable: bool = Field(default=False, description="Whether a rule's override may set it aside.")


# --- lists and tests --------------------------------------------------


class ListSource(OneOf):
    """Where a list comes from. Given keys add up."""

    items: Words | None = Field(None, description="Addresses, domains, or *.domain.")
    builtin: Literal["consumer-mailbox-providers"] | None = Field(None, description="A list that ships with Postern.")
    file: FileName | None = Field(
        None, description="A CSV file beside this one: address or domain, clinic, date, expiry."
    )


def _list_source(value: Any) -> Any:
    return value if isinstance(value, Mapping) else {"items": value}


class SampleAttachment(Model):
    """An attachment of a test message."""

    name: str = Field(description="File name.")
    type: str = Field("application/octet-stream", description="MIME type.")
    text: str = Field("", description="Content.")


class SampleMessage(Model):
    """A message as a test gives it; the scan reads it as it would a real one."""

    from_: str = Field(alias="from", description="Envelope sender and From.")
    to: str = Field(description="The recipient.")
    subject: str = Field("", description="Subject.")
    text: str = Field("", description="Plain text body.")
    html: str = Field("", description="HTML body.")
    headers: dict[HeaderName, str] = Field(default={}, description="More header fields.")
    attachments: tuple[SampleAttachment, ...] = Field((), description="What is attached.")
    client: str = Field("", description="Name of the client.")
    network: str = Field("", description="The client's IP address.")
    identity: str = Field("", description="Authenticated identity.")
    listener: str = Field("", description="Name of the listener.")
    tenant: str = Field("", description="Name of the tenant.")
    stream: Literal["transactional", "bulk"] = Field("transactional", description="The message's stream.")
    received: str = Field("", description="When: 2026-03-02T09:00:00+01:00; now when not given.")


class Expectation(OneOf):
    """What must come out. Only given keys are compared."""

    rule: str | None = Field(None, description="Id of the rule that decides.")
    action: Literal["deliver", "hold", "reject"] | None = Field(None, description="The action.")
    methods: tuple[MethodName, ...] | None = Field(None, description="The methods, in order.")
    tls: LevelWord | Literal["opportunistic"] | None = Field(None, description="The level the rule asks for.")
    floor: LevelWord | None = Field(None, description="The floor: the higher of the rule's level and the floors.")
    floors: tuple[str, ...] | None = Field(None, description="Ids of the floors that hold, in order.")
    overridden: tuple[str, ...] | None = Field(None, description="Ids of the floors that are set aside.")
    otherwise: Otherwise | None = Field(None, description="What happens when no method is left.")
    phi: PhiWord | None = Field(None, description="The scan's verdict, exactly.")


class PolicyTest(Model):
    """A test inside the policy: a change that breaks it never goes live."""

    name: str = Field(min_length=1, max_length=200, description="What it proves.")
    message: SampleMessage = Field(description="The message.")
    expect: Expectation = Field(description="What must come out.")


class PolicyFile(Model):
    """One policy file: the root, or one that it includes."""

    policy: Id | None = Field(None, description="The policy's name; in the root file.")
    description: str = Field("", description="For people.")
    mode: Literal["enforce", "shadow"] = Field("enforce", description="shadow: to be asked only, never taken up.")
    include: Annotated[tuple[FileName, ...], BeforeValidator(_many, json_schema_input_type=str | list[str])] = Field(
        (), max_length=100, description="Files whose rules come before this file's own; relative to this file."
    )
    lists: dict[
        Id, Annotated[ListSource, BeforeValidator(_list_source, json_schema_input_type=str | list[str] | ListSource)]
    ] = Field(default={}, description="Named sets of addresses and domains.")
    floor: tuple[Floor, ...] = Field((), description="Guarantees; those of all files hold together.")
    rules: Annotated[tuple[Rule, ...], Field(max_length=1000)] = Field(
        (), description="In order; the first match decides."
    )
    tests: tuple[PolicyTest, ...] = Field((), description="Tests; all must pass before the policy goes live.")
