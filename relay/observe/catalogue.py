"""Every metric, declared once as data: what ``/metrics`` shows, ``docs/metrics.md`` explains and code may count."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

OTHER: Final = "other"
"""The label value that stands for all that were not admitted."""


class Kind(StrEnum):
    """Prometheus types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label and its bound.

    Attributes:
        name: as exposed.
        help: what its values are.
        values: all values it can have, where they are fixed; any other is counted as ``other``.
        pool: the list of admitted values it draws on, shared by labels of one meaning.
        limit: how many values are admitted, first come, until restart; the rest are counted as ``other``.
    """

    name: str
    help: str
    values: tuple[str, ...] = ()
    pool: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric family.

    Attributes:
        name: as exposed; counters end in ``_total``. Code may leave out ``postern_`` and ``_total``.
        mode: for gauges, how the values of several processes become one (of live processes alone).
        buckets: for histograms, upper bounds in the metric's unit.
        at_scrape: read from the store when scraped; code does not set it.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[Label, ...] = ()
    mode: str = "livesum"
    buckets: tuple[float, ...] = ()
    at_scrape: bool = False


RECIPIENT_DOMAIN: Final = Label(
    name="recipient_domain", help="domain of the recipient, A-labels", pool="recipient_domain", limit=200
)
SENDING_DOMAIN: Final = Label(
    name="sending_domain", help="domain of the reverse-path, `none` for `<>`", pool="sending_domain", limit=100
)
LISTENER: Final = Label(name="listener", help="name of the listener", pool="listener", limit=32)
CLIENT: Final = Label(name="client", help="name of the client", pool="client", limit=200)
RULE: Final = Label(name="rule", help="id of the policy rule", pool="rule", limit=500)
OUTCOME: Final = Label(
    name="outcome",
    help="what became of the recipient's copy",
    values=(
        "delivered", "notified", "deferred", "bounced", "held", "expired", "rejected", "removed", "processed",
    ),
)  # fmt: skip
BOUNCE_CLASS: Final = Label(
    name="class",
    help="class of an answer, see bounces.md",
    values=(
        "invalid-recipient", "inactive-mailbox", "mailbox-full", "domain-not-found", "no-mail-host", "routing",
        "connection", "server-failure", "tls", "sender-authentication", "reputation", "spam", "content", "policy",
        "rate-limited", "overloaded", "greylisted", "message-size", "protocol", "configuration", "expired",
        "complaint", "auto-reply",
    ),
)  # fmt: skip
BOUNCE_FAMILY: Final = Label(
    name="family",
    help="family of an answer, see bounces.md",
    values=(
        "user_unknown", "mailbox_disabled", "mailbox_full", "domain", "network_system", "message_size",
        "throttle_temp", "spam_or_reputation", "policy_auth", "feedback", "auto_reply",
    ),
)  # fmt: skip
COURSE: Final = Label(
    name="course", help="`failed` for good, `deferred`, or `returned` later by mail",
    values=("failed", "deferred", "returned"),
)  # fmt: skip
PROVIDER: Final = Label(
    name="provider", help="who runs the recipient's mail, by relay/delivery/data/providers.yaml", pool="provider",
    limit=80,
)  # fmt: skip
LEVEL: Final = Label(
    name="level",
    help="level reached on the live connection",
    values=("clear", "encrypted", "verified", "authenticated"),
)
VOUCHER: Final = Label(
    name="vouched_by",
    help="who vouched for the host's name",
    values=("dane", "mta-sts", "dnssec", "route", "pin", "nobody"),
)
METHOD: Final = Label(name="method", help="method of protection", values=("tls", "smime", "pgp", "portal"))
TLS_VERSION: Final = Label(
    name="version", help="TLS version, `none` in the clear", values=("none", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
)
CLIENT_TLS: Final = Label(name="tls_version", help="TLS version", values=("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"))
CODE: Final = Label(name="code", help="reply code", pool="code", limit=40)
RESULT: Final = Label(name="result", help="how it went", values=("ok", "failed"))
PUBLISHED: Final = Label(
    name="policy", help="what the domain publishes (RFC 8460 section 4.2)", values=("tlsa", "sts", "no-policy-found")
)
SESSION_RESULT: Final = Label(
    name="result", help="how the session went (RFC 8460 section 4.3)",
    values=(
        "success", "starttls-not-supported", "certificate-host-mismatch", "certificate-expired",
        "certificate-not-trusted", "validation-failure", "tlsa-invalid", "dnssec-invalid", "dane-required",
        "sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid",
    ),
)  # fmt: skip

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ATTEMPT_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
END_TO_END_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5, 15, 60, 300, 900, 3600, 14400, 86400, 432000)


def _counter(name: str, text: str, *labels: Label) -> Metric:
    return Metric(name=f"postern_{name}_total", kind=Kind.COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, *labels: Label, mode: str = "livesum", at_scrape: bool = False) -> Metric:
    return Metric(name=f"postern_{name}", kind=Kind.GAUGE, help=text, labels=labels, mode=mode, at_scrape=at_scrape)


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: Label) -> Metric:
    return Metric(name=f"postern_{name}", kind=Kind.HISTOGRAM, help=text, labels=labels, buckets=buckets)


METRICS: Final[tuple[Metric, ...]] = (
    # Intake
    _counter("connections_in", "Connections that clients made.", LISTENER),
    _gauge("connections_open", "Connections of clients open now.", LISTENER),
    _counter("connections_refused", "Connections turned away before EHLO.", LISTENER, CODE),
    _counter("tls_in", "TLS handshakes with clients by version.", LISTENER, CLIENT_TLS),
    _counter(
        "tls_legacy", "TLS handshakes below version 1.2, let in by a listener's legacy switch.", LISTENER, CLIENT_TLS
    ),
    _counter("tls_handshakes_failed", "TLS handshakes with clients that failed.", LISTENER),
    _counter(
        "auth", "AUTH of clients.", LISTENER,
        Label(name="mechanism", help="SASL mechanism", values=("PLAIN", "LOGIN", "EXTERNAL")),
        Label(name="result", help="how it went", values=("succeeded", "failed", "throttled")),
    ),
    _counter(
        "commands_refused", "Commands answered 4yz or 5yz.", LISTENER, CODE,
        Label(name="enhanced", help="enhanced status code, `none` without one", pool="enhanced", limit=64),
    ),
    _counter("messages_received", "Messages answered 250 after DATA.", LISTENER, CLIENT),
    _counter("messages_refused", "Messages answered 4yz or 5yz after DATA.", LISTENER, CODE),
    _histogram(
        "message_size_bytes", "Octets of a received message.",
        (1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864),
    ),
    _gauge("in_flight_bytes", "Octets of messages taken and not yet kept or refused."),
    _histogram("accept_seconds", "From the end of DATA to its answer.", SECONDS),
    _counter("intake_timeouts", "Clients that were silent for too long.", LISTENER),
    _counter(
        "intake_errors", "Faults of Postern while it took a message; each was answered 451.",
        Label(name="stage", help="where", pool="stage", limit=16),
    ),
    # Scan and policy
    _histogram("scan_seconds", "Time to scan a message.", SECONDS),
    _counter(
        "scan_verdicts", "Messages by the scan's verdict.",
        Label(name="phi", help="the verdict", values=("none", "possible", "likely", "certain")),
    ),
    _counter(
        "findings", "Findings of the scan by kind.",
        Label(name="kind", help="kind of finding", pool="finding", limit=64),
    ),
    _counter(
        "messages_decided", "Recipients' copies by the rule that decided and what it did.", RULE,
        Label(name="action", help="what becomes of the copy", values=("deliver", "hold", "reject")),
    ),
    _counter("policy_errors", "Evaluations that failed; each held its copy."),
    _counter("config_reloads", "Reloads of configuration and policy; after a failed one what ran stays.", RESULT),
    # Delivery
    _counter("recipient_outcomes", "Recipients' copies by what became of them and recipient domain.", OUTCOME,
             RECIPIENT_DOMAIN),
    _counter("sender_outcomes", "Recipients' copies by what became of them and sending domain.", OUTCOME,
             SENDING_DOMAIN),
    _histogram("attempt_seconds", "Time a delivery attempt took.", ATTEMPT_SECONDS),
    _histogram("delivery_seconds", "From acceptance to delivery of a recipient's copy.", END_TO_END_SECONDS),
    _counter("deliveries", "Recipients' copies delivered, by method and level.", METHOD, LEVEL, VOUCHER),
    _counter("delivery_tls", "Transactions delivered, by TLS version.", TLS_VERSION),
    _counter(
        "clear_deliveries",
        "Recipients' copies sent in the clear, their floor allowing it; counted before they leave.",
        RECIPIENT_DOMAIN,
    ),
    _counter("bounces", "Recipients refused or deferred, by what the answer was understood to mean.",
             BOUNCE_CLASS, COURSE, RECIPIENT_DOMAIN),
    _counter("bounce_families", "The same by family and sending domain.", BOUNCE_FAMILY, COURSE, SENDING_DOMAIN),
    _counter("suppressions", "Mailboxes put on the suppression list.", Label(
        name="cause", help="why", values=("hard-bounce", "complaint", "operator")), RECIPIENT_DOMAIN),
    _counter("provider_bounces", "The same by provider and family.", PROVIDER, BOUNCE_FAMILY, COURSE),
    _counter("deferrals", "Recipients that wait, by why and provider.", BOUNCE_CLASS, PROVIDER),
    _counter("provider_suppressions", "Mailboxes put on the suppression list, by provider.", Label(
        name="cause", help="why", values=("hard-bounce", "complaint", "operator")), PROVIDER),
    _counter("complaints", "Complaints of recipients, by feedback report.", PROVIDER, SENDING_DOMAIN),
    _counter("auto_replies", "Automatic replies to mail of ours.", PROVIDER, SENDING_DOMAIN),
    _counter("returned_mail", "Messages to return and report addresses.", Label(
        name="kind", help="what the address takes", values=("return", "bounce", "complaint", "dmarc", "tls")), Label(
        name="result", help="what came of it; `forged`, `expired` and `refused` were not taken", values=(
            "matched", "repeated", "unmatched", "unclear", "auto-reply", "receipt", "complaint", "feedback", "report",
            "unreadable", "unread", "forged", "expired", "refused"))),
    _counter("dmarc_messages", "Messages that DMARC aggregate reports count, by our domain.", SENDING_DOMAIN, Label(
        name="result", help="whether DMARC passed", values=("pass", "fail")), Label(
        name="signed", help="whether the reporter's domain signed the report", values=("yes", "no"))),
    _counter("suppressed_recipients", "RCPT refused because the mailbox is suppressed.", RECIPIENT_DOMAIN),
    _counter("below_floor", "Attempts that ended because the connection stayed below the copy's floor.",
             RECIPIENT_DOMAIN),
    _gauge("delivery_connections_open", "Connections to recipients' servers open now."),
    _counter("delivery_connections", "Connections made to recipients' servers.", RESULT),
    _histogram("dns_seconds", "Time of a DNS look-up that the cache could not answer.", SECONDS),
    _counter(
        "dns_lookups", "DNS look-ups.",
        Label(name="result", help="how it went", values=("cached", "ok", "nxdomain", "empty", "bogus", "failed")),
    ),
    _counter("tls_downgrades", "Mail servers that fell below the level they had reached before.", RECIPIENT_DOMAIN),
    _counter("mta_sts_fetches", "MTA-STS policies fetched.", RESULT),
    _counter("mta_sts_served", "Requests that the server of our own MTA-STS policies answered.", CODE),
    _counter("tls_sessions", "Sessions of deliveries that count in reports about TLS.", PUBLISHED, SESSION_RESULT),
    _counter("tls_sessions_unreported", "Sessions with more domains than reports have room for."),
    _counter("tls_reports_sent", "Reports about TLS brought to a domain that asks for them.", Label(
        name="how", help="the way", values=("mail", "https")), RESULT),
    _counter("tls_reports_received", "Reports about TLS that others sent us.", Label(
        name="result", help="what was done with it",
        values=("kept", "repeated", "not-ours", "unsigned", "too-many", "unreadable"))),
    _counter("tls_reported_sessions", "Sessions with our mail servers, as others report them.", PUBLISHED,
             SESSION_RESULT),
    _counter("dkim_signatures", "DKIM signatures made.", Label(
        name="algorithm", help="of the key", values=("rsa-sha256", "ed25519-sha256"))),
    _counter("dkim_failures", "Messages that should have been signed and could not be."),
    # Portal
    _counter("portal_fallback", "Copies that went to the portal, by why: `rule` names it first.", Label(
        name="reason", help="why no method before it served",
        values=("rule", "level-not-reached", "not-configured", "unavailable", "no-key", "header"))),
    _counter("portal_events", "What happened to messages in the portal.", Label(
        name="event", help="what", values=(
            "notified", "opened", "downloaded", "replied", "forwarded", "reminded", "extended", "resent", "expired",
            "recalled", "not-me", "withdrawn"))),
    _counter("portal_posts", "Mail of the portal's that went into the queue.", Label(
        name="kind", help="what", values=(
            "code", "sender-code", "enrolled", "notice", "reminder", "receipt", "reply", "forward"))),
    _gauge("portal_deposits", "Messages in the portal.", Label(
        name="state", help="where they stand", values=("waiting", "opened", "expired", "recalled", "withdrawn")),
        mode="livemostrecent"),
    _gauge("portal_outbox_items", "What the portal handed out and no worker has taken yet.", mode="livemostrecent"),
    _gauge("portal_oldest_waiting_seconds", "Age of the oldest unopened message.", mode="livemostrecent"),
    _counter("portal_requests", "Requests to the portal's pages.", Label(
        name="route", help="path with its parameters' names", pool="portal_route", limit=96), Label(
        name="status", help="class of the status", values=("2xx", "3xx", "4xx", "5xx"))),
    _counter("portal_codes", "Codes that were asked for.", Label(
        name="asked", help="where", values=("link", "sign-in", "sender"))),
    _counter("portal_answers", "Answers to codes and secrets.", Label(
        name="way", help="what was answered", values=(
            "code", "passphrase", "totp", "passkey", "shared", "none")), Label(
        name="result", help="how it was", values=("right", "wrong"))),
    _counter("portal_sign_ins", "Sessions that began.", Label(
        name="way", help="what the session rests on", values=(
            "code", "passkey", "passphrase", "totp", "code+passphrase", "code+totp", "code+passkey", "change",
            "recovery", "sender"))),
    _counter("portal_limited", "Requests to the portal that a limit refused.", Label(
        name="limit", help="which limit", values=(
            "codes-message", "codes-mailbox", "codes-network", "codes-sign-in", "codes-sign-in-day",
            "codes-recovery", "codes-all", "codes-again", "sign-ins-network", "sign-ins-all", "answers-mailbox",
            "answers-day", "answers-strangers", "answers-network", "changes", "recoveries", "recalls-network",
            "approvals-network", "answers-written", "answers-written-day", "searches",
            "sender-acts", "sender-notices"))),
    # Store
    _histogram("commit_batch_units", "Units of work in one group commit.", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
    _gauge("queue_entries", "Queue entries by state.", Label(
        name="state", help="where they stand; leased ones are ready too",
        values=("ready", "deferred", "held", "leased")), at_scrape=True),
    _gauge("queue_oldest_age_seconds", "Age of the oldest queue entry.", at_scrape=True),
    _gauge("queue_bytes", "Octets of message bodies in the queue.", at_scrape=True),
    _gauge("queue_destination_entries", "Queue entries of the longest destinations.", RECIPIENT_DOMAIN,
           at_scrape=True),
    _gauge("outbox_rows", "Audit rows not yet in a segment.", at_scrape=True),
    # Operating
    _counter("alerts", "Alerts: what someone should look at now.", Label(
        name="kind", help="kind of alert", pool="alert", limit=64)),
    _counter("operator_actions", "Operations through the control socket.", Label(
        name="operation", help="verb", pool="operation", limit=32), Label(
        name="result", help="how it went", values=("ok", "failed", "denied"))),
    _gauge("config_refused", "1 while the newest configuration on disk is refused and an older one runs.",
           mode="livemax"),
    _gauge("certificate_expiry_timestamp_seconds", "When a certificate ends, unix time.", Label(
        name="certificate", help="its name in the configuration", pool="certificate", limit=100),
        mode="livemostrecent"),
    _counter("audit_segments", "Audit segments written and synced.", RESULT),
    _counter("log_lines_lost", "Log lines that could not be written."),
    _counter("metric_errors", "Calls with an unknown metric name or wrong labels: a fault in Postern."),
    _gauge("build_info", "Always 1; the version is the label.", Label(
        name="version", help="version of Postern", pool="version", limit=4), mode="livemax"),
)  # fmt: skip

BY_NAME: Final = {metric.name: metric for metric in METRICS}
"""By the exposed name, and by the short one that code may use: without ``postern_`` and ``_total``."""
BY_NAME.update({metric.name.removeprefix("postern_").removesuffix("_total"): metric for metric in METRICS})


_INTRODUCTION: Final = (
    "All metrics of `/metrics`, as declared in `relay/observe/catalogue.py`. This page is generated: "
    "`python tools/metrics_reference.py` writes it, and a test keeps it current."
)
_BOUNDS: Final = (
    "Labels are bounded. A label with fixed values counts any other value as `other`; the rest admit the first so "
    "many values they meet, over all processes, until the next restart, and count later ones as `other`. "
    "No label holds a mailbox."
)


def reference() -> str:
    """The text of ``docs/metrics.md``."""
    lines = [
        "# Metrics",
        "",
        _INTRODUCTION,
        "",
        _BOUNDS,
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for metric in METRICS:
        labels = ", ".join(f"`{label.name}`" for label in metric.labels)
        when = " Read from the store at each scrape." if metric.at_scrape else ""
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help}{when} |")
    lines += ["", "## Labels", "", "| label | on | meaning | bound |", "|---|---|---|---|"]
    seen: dict[Label, list[str]] = {}
    for metric in METRICS:
        for label in metric.labels:
            seen.setdefault(label, []).append(f"`{metric.name}`")
    for label, users in seen.items():
        bound = ", ".join(f"`{value}`" for value in label.values) or f"the first {label.limit}"
        lines.append(f"| `{label.name}` | {', '.join(users)} | {label.help} | {bound} |")
    lines += ["", "## Buckets", "", "| histogram | upper bounds |", "|---|---|"]
    for metric in METRICS:
        if metric.buckets:
            lines.append(f"| `{metric.name}` | {', '.join(f'{bound:g}' for bound in metric.buckets)} |")
    return "\n".join(lines) + "\n"
