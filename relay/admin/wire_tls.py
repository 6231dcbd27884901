"""Requests and results about TLS with other servers, over the control socket."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from relay.admin.wire_base import MAX_LISTED, Done, Wire

Destination: TypeAlias = Annotated[str, Field(min_length=1, max_length=300)]


class TlsReportRequest(Wire):
    """What is known of the mail servers of these destinations, or of all; ``fallen``: of those that can less now."""

    op: Literal["tls-report"] = "tls-report"
    destinations: tuple[Destination, ...] = Field(default=(), max_length=1000)
    fallen: bool = False


class TlsReportsRequest(Wire):
    """Reports about TLS that others sent: about these domains of ours, or all; the newest."""

    op: Literal["tls-reports"] = "tls-reports"
    domains: tuple[Destination, ...] = Field(default=(), max_length=50)
    limit: int = Field(default=200, ge=1, le=MAX_LISTED)


class TlsProbeRequest(Wire):
    """Meet the mail servers of these destinations now, without any mail, and report."""

    op: Literal["tls-probe"] = "tls-probe"
    destinations: tuple[Destination, ...] = Field(min_length=1, max_length=50)
    fallen: bool = False


class TlsServerView(Wire):
    """One mail server of one destination; see ``relay.trust.capability.Capability``."""

    domain: str
    host: str
    best: str
    best_at: float
    best_how: str
    level: str
    seen_at: float
    how: str
    vouched_by: str
    checked_by: str
    failure: str
    tls_version: str
    cipher: str
    certificate_sha256: str
    issuer: str
    not_after: float
    mta_sts: str
    dane: str
    downgraded_at: float


class TlsFailureView(Wire):
    """Sessions that failed in one way."""

    result: str
    count: int
    sending_ip: str
    receiving_ip: str
    receiving_host: str
    reason: str


class TlsPolicyView(Wire):
    """What became of sessions under one policy."""

    kind: str
    domain: str
    strings: tuple[str, ...]
    mx: tuple[str, ...]
    succeeded: int
    failed: int
    details: tuple[TlsFailureView, ...]


class TlsReportView(Wire):
    """A report that somebody sent; their words, made printable."""

    organization: str
    contact: str
    report_id: str
    begin: float
    end: float
    policies: tuple[TlsPolicyView, ...]
    submitter: str


class TlsReportsResult(Wire):
    """The newest last; ``more``: there are older ones."""

    reports: tuple[TlsReportView, ...]
    more: bool = False


class TlsResult(Wire):
    """``failed``: destinations whose servers were not found, and why; ``more``: there are further servers."""

    servers: tuple[TlsServerView, ...]
    failed: tuple[Done, ...] = ()
    more: bool = False
