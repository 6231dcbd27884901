"""Settings of TLS with other servers: what is trusted and heeded, reported, and published of our own."""

from enum import StrEnum

from pydantic import model_validator

from relay.config.types import (
    AUTO,
    Boolean,
    Destination,
    Domain,
    DomainPattern,
    Duration,
    FilePath,
    Fingerprint,
    Integer,
    OptionalIp,
    OptionalMailbox,
    OptionalPath,
    OptionalSecret,
    Port,
    Section,
    TlsVersion,
    refuse,
    setting,
    switch,
)


class MtaStsSettings(Section):
    """The policies that domains publish about the TLS of their mail servers (RFC 8461)."""

    enabled: Boolean = switch("Look for policies and heed them.", on=True)
    port: Port = setting(443, "Port of policy hosts; another one only makes sense in tests.", "TCP port")
    timeout: Duration = setting("1m", "A whole fetch, look-up to last octet.", "duration", ge=0.1, le=600)
    refresh: Duration = setting(
        "1d", "Known policies are fetched anew after this long, or half their own age.", "duration", ge=60, le=2_592_000
    )


class PolicyMode(StrEnum):
    """What others do when a server of ours fails our policy."""

    ENFORCE = "enforce"
    """They do not deliver to it."""
    TESTING = "testing"
    """They deliver all the same, and report."""
    NONE = "none"
    """There is no policy any more."""


class CipherPreset(StrEnum):
    """Cipher suites that are taken."""

    DEFAULT = "default"
    """What OpenSSL takes for good."""
    SP800_52R2 = "sp800-52r2"
    """Those of NIST SP 800-52 rev. 2 with forward secrecy; not a FIPS validation."""


class TlsRuleSettings(Section):
    """How TLS is spoken with some destinations; the first rule that names a destination holds."""

    destinations: tuple[Destination, ...] = setting(
        ..., "Recipient domains (*.x means below x, * all) and routes (route:NAME).", "list of destinations",
        min_length=1, max_length=1000, examples=[["partner.example"]],
    )  # fmt: skip
    pins: tuple[Fingerprint, ...] = setting(
        [], "SHA-256 of certificates or public keys: the server's must be one of these, and nothing else is checked.",
        "list of fingerprints", max_length=100,
    )  # fmt: skip
    roots: OptionalPath = setting(None, "PEM file of the only roots trusted there; null: those of tls.", "file")
    client_certificate: OptionalPath = setting(None, "PEM file of the certificate we show there; null: none.", "file")
    client_key: OptionalSecret = setting(None, "PEM file of its private key, or credential:NAME.", "file")
    minimum: TlsVersion = setting("1.2", "Oldest TLS version there: 1.2 or 1.3.", "TLS version")
    ciphers: CipherPreset = setting(CipherPreset.DEFAULT, "Cipher suites taken: default or sp800-52r2.")

    @model_validator(mode="after")
    def _means_something(self) -> "TlsRuleSettings":
        faults = []
        if (self.client_certificate is None) != (self.client_key is None):
            faults.append(("client_certificate and client_key go together", "give both or none"))
        if self.pins and self.roots:
            faults.append(("pins decide alone, so roots would mean nothing", "give one of the two"))
        refuse(faults)
        return self


class TlsReportSettings(Section):
    """The daily reports that we send to domains which ask how TLS with their mail servers went (RFC 8460)."""

    sender: OptionalMailbox = setting(
        None, "Author of the reports, of a domain with a DKIM key; null: nothing is counted or sent.", "mailbox",
        examples=["tls-reports@clinic.example"],
    )  # fmt: skip
    organization: str = setting(AUTO, "Who reports, in words; auto: HOSTNAME.", "text", min_length=1, max_length=200)
    contact: str = setting(AUTO, "Whom to ask about a report; auto: the sender.", "mailbox")
    spread: Duration = setting(
        "4h", "Time after midnight UTC over which reports are spread.", "duration", ge=0, le=43_200
    )
    skip: tuple[DomainPattern, ...] = setting(
        [], "Domains that get none; *.x means below x.", "list of domains", max_length=10_000
    )


class OwnDomainSettings(Section):
    """The MTA-STS policy of one domain of ours, such as that of report or reply addresses."""

    domain: Domain = setting(..., "The domain.", examples=["reports.clinic.example"])
    mx: tuple[DomainPattern, ...] = setting(
        ..., "Its mail servers as its MX names them; *.x stands for one label before x.", "list of hosts",
        min_length=1, max_length=100, examples=[["mx.clinic.example"]],
    )  # fmt: skip
    mode: PolicyMode = setting(PolicyMode.TESTING, "testing, enforce or none.")
    max_age: Duration = setting("1w", "How long others keep the policy.", "duration", ge=86_400, le=31_557_600)
    reports: OptionalMailbox = setting(None, "Where others send reports about TLS; null: nowhere.", "mailbox")

    @model_validator(mode="after")
    def _names_hosts(self) -> "OwnDomainSettings":
        refuse([("mx: * names every host", "name the hosts, or *.x")] if "*" in self.mx else [])
        return self


class PublishSettings(Section):
    """The policies that others hold our mail servers to, and the web server that serves them."""

    address: OptionalIp = setting(
        None, "IP address to serve policies on; null: another web server serves what postern tls policy prints.",
        "IP address",
    )  # fmt: skip
    port: Integer = setting(443, "Port to serve policies on; 0: any free port.", "TCP port", ge=0, le=65535)
    certificate: OptionalPath = setting(None, "PEM file, for mta-sts.DOMAIN of each domain.", "file")
    key: OptionalSecret = setting(None, "PEM file of its private key, or credential:NAME.", "file")
    domains: tuple[OwnDomainSettings, ...] = setting([], "Domains of ours that have a policy.", max_length=1000)

    @model_validator(mode="after")
    def _each_once(self) -> "PublishSettings":
        names = [one.domain for one in self.domains]
        twice = sorted({name for name in names if names.count(name) > 1})
        refuse([(f"{name} has two policies", "keep one") for name in twice])
        return self

    @model_validator(mode="after")
    def _can_serve(self) -> "PublishSettings":
        faults = []
        if (self.certificate is None) != (self.key is None):
            faults.append(("certificate and key go together", "give both or none"))
        if self.address is not None and self.certificate is None:
            faults.append(("address without a certificate: policies are served over HTTPS alone", "give certificate"))
        if self.address is not None and not self.domains:
            faults.append(("address without domains: there is nothing to serve", "give domains"))
        refuse(faults)
        return self


class TlsSettings(Section):
    """What certificates of other servers are checked against, and by whose word their names are believed."""

    trust_roots: OptionalPath = setting(None, "PEM file of trusted roots; null: those of the system.", "file")
    extra_roots: tuple[FilePath, ...] = setting(
        [], "PEM files of roots trusted besides, such as a hospital's.", "list of files"
    )
    minimum: TlsVersion = setting("1.2", "Oldest TLS version that counts as encrypted: 1.2 or 1.3.", "TLS version")
    dane: Boolean = switch(
        "Heed TLSA records (RFC 7672) and signed MX answers; of effect only with dns.validating.", on=True
    )
    mta_sts: MtaStsSettings = setting({}, "Policies that domains publish (RFC 8461).")
    probe_known: Duration = setting(
        "1d", "Servers not met for so long are met without mail, one by one; 0: never.", "duration", ge=0, le=2_592_000
    )
    reports: TlsReportSettings = setting({}, "Reports about TLS that we send (RFC 8460).")
    publish: PublishSettings = setting({}, "What we publish of our own mail servers' TLS (RFC 8461).")
    rules: tuple[TlsRuleSettings, ...] = setting(
        [], "Own rules for some destinations; the first that names one holds.", max_length=10_000
    )
