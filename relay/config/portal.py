"""Settings of the portal: the secure page for those whom mail cannot reach safely."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

from pydantic import PlainValidator, WithJsonSchema, field_validator, model_validator

from relay.config.portal_limits import PortalLimitSettings
from relay.config.store import is_postgres, store_url
from relay.config.types import (
    AUTO,
    AutoPath,
    Boolean,
    Domain,
    Duration,
    FilePath,
    Integer,
    Ip,
    Mailbox,
    Network,
    OptionalPath,
    OptionalSecret,
    Section,
    Size,
    TlsFloor,
    refuse,
    setting,
    switch,
)

_ORIGIN: Final = re.compile(r"(https?)://([A-Za-z0-9.-]+)(:[0-9]{1,5})?\Z")
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}\Z")
LOGO_TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}
MAX_LOGO: Final = 64 * 1024


def _origin(value: object) -> str:
    match = _ORIGIN.match(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("is not an origin: write https://HOST without a path, such as https://secure.clinic.example")
    if match[1] == "http" and match[2] not in {"localhost", "127.0.0.1"}:
        raise ValueError("would send messages in the clear|write https://; http is for localhost alone")
    return f"{match[1]}://{match[2].lower()}{match[3] or ''}"


def _colour(value: object) -> str | None:
    if value is None:
        return None
    text = value.lower() if isinstance(value, str) else ""
    if not _COLOUR.match(text):
        raise ValueError("is not a colour: write '#rrggbb'")
    return text


def _zone(value: object) -> str:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only where a portal is configured

    try:
        return ZoneInfo(value if isinstance(value, str) else "").key
    except (ValueError, OSError, KeyError):
        raise ValueError("is not a time zone|write a name such as America/Chicago") from None


Origin = Annotated[str, PlainValidator(_origin), WithJsonSchema({"type": "string", "pattern": "^https?://[^/]+$"})]
Colour = Annotated[
    str | None,
    PlainValidator(_colour),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^#[0-9A-Fa-f]{6}$"}, {"type": "null"}]}),
]
Zone = Annotated[str, PlainValidator(_zone), WithJsonSchema({"type": "string"})]


class Language(StrEnum):
    """What notices are written in where the message does not say (Content-Language)."""

    ENGLISH = "en"
    SPANISH = "es"


class ProxyHeader(StrEnum):
    """The header in which a proxy says whom it serves."""

    NONE = "none"
    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"


class BrandSettings(Section):
    """How a clinic looks to its patients: in notices and on the page. Nothing here may be about a patient."""

    tenant: str = setting(..., "The tenant of its clients.", min_length=1, max_length=63, examples=["riverside"])
    name: str = setting(..., "Its name.", min_length=1, max_length=80, examples=["Riverside Clinic"])
    address: str = setting("", "Postal address, one line.", max_length=200)
    phone: str = setting("", "Whom to call when in doubt.", max_length=40)
    accent: Colour = setting(None, "Colour of buttons and links, '#rrggbb'; null: blue.", "colour")
    logo: OptionalPath = setting(None, "Picture: PNG, JPEG or WebP, 64 KiB at the most; null: none.", "file")
    language: Language = setting(Language.ENGLISH, "Language of notices whose message names none: en or es.")

    @field_validator("logo")
    @classmethod
    def _a_picture(cls, value: Path | None) -> Path | None:
        if value is not None and value.suffix.lower() not in LOGO_TYPES:
            raise ValueError(f"is not a picture that mail readers show|its name ends in {', '.join(LOGO_TYPES)}")
        return value


class ProxySettings(Section):
    """A proxy in front of the page: only what it says of whom it serves is believed."""

    networks: tuple[Network, ...] = setting(
        [], "Networks of proxies; nobody else is believed.", "list of networks", max_length=100
    )
    header: ProxyHeader = setting(ProxyHeader.NONE, "none, x-forwarded-for or forwarded (RFC 7239).")
    protocol: Boolean = switch("Its connections begin with a PROXY protocol header, version 1 or 2.", on=False)

    @model_validator(mode="after")
    def _somebody_to_believe(self) -> "ProxySettings":
        if (self.protocol or self.header is not ProxyHeader.NONE) and not self.networks:
            raise ValueError("header and protocol are believed from networks alone|name the networks of the proxies")
        return self


class PortalSettings(Section):
    """The secure page for those whom mail cannot reach safely. Without this section there is no portal."""

    origin: Origin = setting(
        ..., "Scheme and host that patients see.", "origin", examples=["https://secure.clinic.example"]
    )
    mail_from: Mailbox = setting(
        ..., "Whom notices and codes are from; its domain should have a DKIM key.", "mailbox",
        examples=["secure@clinic.example"],
    )  # fmt: skip
    address: Ip = setting("127.0.0.1", "IP address to listen on.", "IP address")
    port: Integer = setting(8443, "Port to listen on; 0: any free port.", "TCP port", ge=0, le=65_535)
    certificate: OptionalPath = setting(
        None, "PEM file: the certificate, then its intermediates; null: a proxy in front does TLS.", "file"
    )
    key: OptionalSecret = setting(None, "PEM file of its private key, or credential:NAME.", "file")
    proxy: ProxySettings = setting({}, "A proxy in front.")
    more_hosts: tuple[Domain, ...] = setting(
        [], "Other host names under which the page answers.", "list of domains", max_length=20
    )
    supervised: Boolean = switch(
        "postern run starts the page, as the user of all. Off: a unit of its own does, as a user of its own.", on=True
    )
    dir: AutoPath = setting(AUTO, "Where portal.db is; auto: DATA_DIR/portal.", "directory")
    store: str = setting(
        AUTO,
        "auto: portal.db, or where the queue is when that is PostgreSQL. postgresql://USER@HOST/DATABASE: another.",
        "store",
    )
    store_password: OptionalSecret = setting(None, "File with that database's password.", "file")
    keys_dir: FilePath = setting(
        "portal-keys", "The portal's own key ring; keep it off the backups of dir.", "directory"
    )

    expire_after: Duration = setting(
        "30d", "How long a message can be read, where its rule does not say.", "duration", ge=3600, le=31_622_400
    )
    remind_before: Duration = setting(
        "3d", "So long before that, who has not read it is reminded; 0: never.", "duration", ge=0, le=2_592_000
    )
    keep_records: Duration = setting(
        "90d", "How long what became of a deleted message is listed.", "duration", ge=86_400, le=315_360_000
    )
    keep_accounts: Duration = setting(
        "548d", "An account nobody signs in to for so long, and that no message waits for, is deleted.", "duration",
        ge=2_592_000, le=315_360_000,
    )  # fmt: skip
    notice_tls: TlsFloor = setting(
        TlsFloor.OPPORTUNISTIC, "The least a notice's connection must reach: it holds no patients' data."
    )
    special_notice_tls: TlsFloor = setting(TlsFloor.ENCRYPTED, "The same for specially protected kinds.")
    name: str = setting("Secure messages", "The page's name where no brand fits.", min_length=1, max_length=80)
    brands: tuple[BrandSettings, ...] = setting([], "How each clinic looks.", max_length=500)
    time_zone: Zone = setting("UTC", "In which the page writes times.", "time zone")

    code_life: Duration = setting("10m", "How long a mailed code works.", "duration", ge=60, le=3600)
    session_idle: Duration = setting(
        "15m", "Without use for so long, the reader is signed out.", "duration", ge=60, le=86_400
    )
    session_life: Duration = setting("8h", "A sign-in ends after this, however busy.", "duration", ge=300, le=604_800)
    breached_passphrases: OptionalPath = setting(
        None, "File of SHA-1 hashes of stolen passphrases, sorted, a line each; null: the built-in rules only.", "file"
    )
    max_upload: Size = setting("36MiB", "Largest form with files.", "size", ge=1 << 20, le=1 << 30)
    limits: PortalLimitSettings = setting({}, "How often, and how much.")
    requests_at_once: Integer = setting(256, "Connections served at once.", "connections", ge=1, le=65_535)

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value == AUTO:
            return value
        if not is_postgres(value):
            raise ValueError("is neither auto nor postgresql://|write auto, or postgresql://USER@HOST/DATABASE")
        return store_url(value)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "PortalSettings":
        faults = []
        if (self.certificate is None) != (self.key is None):
            faults.append(("certificate and key go together", "give both or none"))
        behind = bool(self.proxy.networks) or self.address.is_loopback
        if self.certificate is None and not behind:
            what = f"without a certificate, {self.address} would serve messages in the clear"
            faults.append((what, "give certificate and key, or proxy.networks of the proxy that does TLS"))
        if self.certificate is not None and self.proxy.protocol:
            faults.append(("a proxy that sends PROXY headers does TLS itself here", "leave certificate and key out"))
        tenants = [brand.tenant for brand in self.brands]
        faults += [
            (f"the tenant {tenant} has two brands", "one each")
            for tenant in sorted({one for one in tenants if tenants.count(one) > 1})
        ]
        if self.remind_before >= self.expire_after:
            faults.append(("remind_before is not before expire_after", "remind a few days before"))
        if self.session_life < self.session_idle:
            faults.append(("session_life is shorter than session_idle", "give a session room"))
        if self.limits.answer_size > self.max_upload:
            faults.append(("limits.answer_size is larger than max_upload", "give max_upload room for it"))
        refuse(faults)
        return self
