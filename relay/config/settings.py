"""The whole configuration, as one frozen tree."""

import functools
import os
import re
import socket
import threading
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import WithJsonSchema, field_validator

from relay.config.delivery import DeliverySettings, DkimSettings, DnsSettings, DsnSettings, RouteSettings
from relay.config.operation import (
    AdminSettings,
    AuditSettings,
    ControlSettings,
    LogSettings,
    MetricsSettings,
    ProcessSettings,
    ScanSettings,
)
from relay.config.portal import PortalSettings
from relay.config.reception import AuthSettings, LimitSettings, ListenerSettings
from relay.config.reputation import BounceSettings, ReturnSettings, SuppressionSettings
from relay.config.store import node_name, store_url
from relay.config.tls import TlsSettings
from relay.config.types import AUTO, FilePath, Integer, OptionalSecret, Section, domain_name, name_of, setting
from relay.core.address import Address
from relay.core.errors import AddressError

_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}\Z")


NAMELESS: Final = "localhost.localdomain"
_NAME_WAIT: Final = 3.0


@functools.lru_cache(maxsize=1)
def machine_name(wait: float = _NAME_WAIT) -> str:
    """This machine's full name in A-labels, or :data:`NAMELESS` when none is told in ``wait`` seconds.

    A name with dots is taken as it is; else the system's resolver is asked, which has no deadline of its own.
    """
    names = [socket.gethostname()]
    if "." not in names[0]:
        asking = threading.Thread(target=lambda: names.append(socket.getfqdn()), daemon=True)
        asking.start()
        asking.join(wait)
    try:
        return domain_name(names[-1]) if "." in names[-1] else NAMELESS
    except ValueError:
        return NAMELESS


class Settings(Section):
    """Everything an operator can set. Paths are absolute, durations seconds, sizes bytes."""

    hostname: str = setting(
        AUTO, "Name in the banner, EHLO, Received and Message-ID; auto: this machine's full name.", "domain"
    )
    data_dir: FilePath = setting("/var/lib/postern", "Queue, sealed bodies and audit trail.", "directory")
    run_dir: FilePath = setting("/run/postern", "Sockets, locks and snapshots of the configuration.", "directory")
    keys_dir: FilePath = setting(
        "keys", "The key ring that seals mail at rest; keep it off data_dir's backups.", "directory"
    )
    clients_dir: FilePath = setting("clients", "One YAML file a client; postern client add writes them.", "directory")
    policy: FilePath = setting("policies/main.yaml", "The root policy file.", "file")
    store: str = setting(
        "sqlite",
        "Where the queue is: sqlite (a file in data_dir), or postgresql://USER@HOST/DATABASE that several nodes share.",
        "store",
    )
    store_password: OptionalSecret = setting(
        None, "File with the database's password; null: PGPASSFILE, a certificate or peer authentication.", "file"
    )
    node: str = setting(
        AUTO, "This machine's name among the nodes that share a store; auto: its host name, without the domain.", "name"
    )
    workers: Annotated[
        Integer, WithJsonSchema({"anyOf": [{"const": AUTO}, {"type": "integer", "minimum": 1, "maximum": 256}]})
    ] = setting(AUTO, "Worker processes; auto: one a CPU.", "processes", ge=1, le=256)
    user: str | None = setting(None, "Unix user to run as when started as root; null: whoever starts it.", "user")

    listeners: tuple[ListenerSettings, ...] = setting(
        ..., "Where mail comes in. One at least.", min_length=1, max_length=100
    )
    auth: AuthSettings = setting({}, "How failed logins are slowed down.")
    limits: LimitSettings = setting({}, "What intake takes in.")
    dns: DnsSettings = setting({}, "How names are looked up.")
    tls: TlsSettings = setting({}, "What certificates of other servers are checked against.")
    routes: tuple[RouteSettings, ...] = setting(
        [], "Fixed next hops; the first that matches is taken. None: by MX.", max_length=10_000
    )
    delivery: DeliverySettings = setting({}, "How mail goes out.")
    dsn: DsnSettings = setting({}, "Delivery status notifications.")
    bounces: BounceSettings = setting({}, "How answers and returned mail are understood.")
    returns: ReturnSettings = setting({}, "Return addresses, and addresses for reports.")
    suppression: SuppressionSettings = setting({}, "Mailboxes that get no more mail for a while.")
    portal: PortalSettings | None = setting(None, "The secure page, the method portal; null: there is none.")
    scan: ScanSettings = setting({}, "The search for patients' data.")
    dkim: DkimSettings = setting({}, "DKIM signatures of outgoing mail.")
    log: LogSettings = setting({}, "The log.")
    metrics: MetricsSettings = setting({}, "Prometheus metrics.")
    admin: AdminSettings = setting({}, "HTTP for metrics and health.")
    control: ControlSettings = setting({}, "The operators' socket.")
    audit: AuditSettings = setting({}, "The audit trail.")
    process: ProcessSettings = setting({}, "How processes are watched and stopped.")

    @field_validator("hostname", mode="before")
    @classmethod
    def _named(cls, value: Any) -> str:
        return machine_name() if value == AUTO else domain_name(value)

    @field_validator("workers", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        return len(os.sched_getaffinity(0)) if value == AUTO else value

    @field_validator("store")
    @classmethod
    def _known_store(cls, value: str) -> str:
        return store_url(value)

    @field_validator("node", mode="before")
    @classmethod
    def _node_name(cls, value: Any) -> str:
        return node_name() if value == AUTO else name_of(value)

    @field_validator("user")
    @classmethod
    def _user_name(cls, value: str | None) -> str | None:
        if value is not None and not _USER.match(value):
            raise ValueError("is not a Unix user name")
        return value

    @field_validator("dsn")
    @classmethod
    def _dsn_for_host(cls, value: DsnSettings, info: Any) -> DsnSettings:
        host = info.data.get("hostname", "localhost.localdomain")
        postmaster = f"postmaster@{host}" if value.postmaster == AUTO else value.postmaster
        reporting_mta = host if value.reporting_mta == AUTO else domain_name(value.reporting_mta)
        try:
            postmaster = str(Address.parse(postmaster))
        except AddressError as error:
            raise ValueError(f"postmaster is not a mailbox: {error}") from None
        return value.model_copy(update={"postmaster": postmaster, "reporting_mta": reporting_mta})

    @field_validator("control")
    @classmethod
    def _control_in_run_dir(cls, value: ControlSettings, info: Any) -> ControlSettings:
        if value.socket != Path(AUTO):
            return value
        return value.model_copy(update={"socket": info.data.get("run_dir", Path("/run/postern")) / "control.sock"})

    @field_validator("audit")
    @classmethod
    def _audit_in_data_dir(cls, value: AuditSettings, info: Any) -> AuditSettings:
        if value.dir != Path(AUTO):
            return value
        return value.model_copy(update={"dir": info.data.get("data_dir", Path("/var/lib/postern")) / "audit"})

    @field_validator("portal")
    @classmethod
    def _portal_in_data_dir(cls, value: PortalSettings | None, info: Any) -> PortalSettings | None:
        if value is None or value.dir != Path(AUTO):
            return value
        return value.model_copy(update={"dir": info.data.get("data_dir", Path("/var/lib/postern")) / "portal"})

    def route_for(self, domain: str) -> RouteSettings | None:
        """The first route whose domains match; ``domain`` in A-labels."""
        return next((route for route in self.routes if any(matches(domain, one) for one in route.domains)), None)


def matches(domain: str, pattern: str) -> bool:
    """Whether a domain (A-labels, lower case) is what a pattern names: itself, ``*.x`` below x, or ``*``."""
    if pattern == "*":
        return True
    return domain.endswith(pattern[1:]) if pattern.startswith("*.") else domain == pattern
