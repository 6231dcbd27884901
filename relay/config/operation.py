"""Settings of running the relay: scan, log, metrics, control, audit, processes."""

from enum import StrEnum

from relay.config.types import (
    AUTO,
    AutoPath,
    Boolean,
    Duration,
    Integer,
    Ip,
    OptionalPath,
    Section,
    Size,
    setting,
    switch,
)


class ScanSettings(Section):
    """The search for patients' data."""

    timeout: Duration = setting(
        "10s", "Time a message's scan may take; then it is unreadable: timeout.", "duration", ge=0.1, le=300
    )
    inline_limit: Size = setting(
        "128KiB", "Largest message scanned on the event loop; larger ones go to the helper.", "size", ge=0, le=1 << 18
    )
    read_size: Size = setting(
        "64MiB", "Bytes of a message, and of all its decoded parts, that are read; beyond it is unreadable.", "size",
        ge=1 << 20, le=1 << 32,
    )  # fmt: skip
    max_findings: Integer = setting(
        200, "Findings listed for one message; more still count.", "findings", ge=1, le=100_000
    )
    attachment_depth: Integer = setting(
        6, "Files inside one another (an archive in a message in an archive) that are read.", "levels", ge=1, le=50
    )
    attachment_files: Integer = setting(
        500, "Files in the attachments of one message that are read.", "files", ge=1, le=100_000
    )
    attachment_size: Size = setting(
        "200MiB", "Bytes of all that is unpacked from one message; beyond it is unreadable: bomb.", "size",
        ge=1 << 20, le=1 << 32,
    )  # fmt: skip
    attachment_pages: Integer = setting(3000, "Pages of one document that are read.", "pages", ge=1, le=1_000_000)
    tuning: OptionalPath = setting(
        None, "The operator's own patterns, terms, exclusions and weights (docs/phi.md); null: none.", "file"
    )
    helpers: Integer = setting(
        1, "Helper processes that read what strangers wrote, a worker.", "processes", ge=1, le=64
    )
    helper_memory: Size = setting("1GiB", "Memory of a helper process.", "size", ge=1 << 26, le=1 << 40)


class LogLevel(StrEnum):
    """The least severe line that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    AUTO = "auto"
    JSON = "json"
    CONSOLE = "console"


class LogSettings(Section):
    """The log: it shows a recipient's domain and the message's id, never the mailbox, subject or text."""

    level: LogLevel = setting(LogLevel.INFO, "debug, info, warning or error.")
    format: LogFormat = setting(LogFormat.AUTO, "json, console, or auto: console on a terminal, else json.")
    file: OptionalPath = setting(None, "File to append to (reopened on SIGHUP); null: standard error.", "file")


class MetricsSettings(Section):
    """Prometheus metrics."""

    recipient_domains: Integer = setting(
        200, "Recipient domains that get a label of their own, until restart; the rest are other.", "domains",
        ge=0, le=10_000,
    )  # fmt: skip
    sending_domains: Integer = setting(
        50, "Sending domains that get a label of their own, until restart; the rest are other.", "domains",
        ge=0, le=10_000,
    )  # fmt: skip


class AdminSettings(Section):
    """HTTP for metrics and health: /metrics, /livez, /readyz."""

    address: Ip = setting("127.0.0.1", "IP address to listen on.", "IP address")
    port: Integer = setting(8025, "Port to listen on; 0: any free port.", "TCP port", ge=0, le=65535)


class ControlSettings(Section):
    """The socket over which postern queue and its like act on the running system."""

    socket: AutoPath = setting(AUTO, "Path of the socket; auto: RUN_DIR/control.sock.", "path")
    operators: tuple[str, ...] = setting(
        ["root"], "Unix users who may act (known by the kernel, SO_PEERCRED).", "list of users"
    )
    operator_groups: tuple[str, ...] = setting([], "Unix groups whose members may act.", "list of groups")


class AuditSettings(Section):
    """The audit trail: sealed, chained, signed daily segments."""

    dir: AutoPath = setting(AUTO, "Where segments are kept; auto: DATA_DIR/audit.", "directory")
    retention: Duration = setting(
        "6y", "How long segments are kept (45 CFR 164.316(b)(2): six years; a year counts 366 days).", "duration",
        ge=86_400, le=100 * 366 * 86_400,
    )  # fmt: skip
    sign_interval: Duration = setting("1m", "How often the head is signed and sent.", "duration", ge=1, le=86_400)
    heads_file: OptionalPath = setting(None, "File off this machine's disk that signed heads are appended to.", "file")
    heads_syslog: Boolean = switch("Send signed heads to syslog.", on=False)


class ProcessSettings(Section):
    """How processes are watched and stopped."""

    watchdog: Duration = setting(
        "30s", "Silence after which a process is killed and replaced.", "duration", ge=1, le=3600
    )
    drain: Duration = setting(
        "30s", "Time open sessions and attempts get to end at shutdown or reload.", "duration", ge=0, le=3600
    )
    restart_pause: Duration = setting(
        "15s", "Longest pause before a process that ends again and again is started anew.", "duration", ge=0, le=600
    )
