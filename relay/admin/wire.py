"""What travels over the control socket: typed requests and results, one JSON object a line."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from relay.admin.wire_base import MAX_LISTED, ControlError, Done, Wire
from relay.admin.wire_portal import (
    PortalApproveRequest,
    PortalExtendRequest,
    PortalListRequest,
    PortalListResult,
    PortalRecallRequest,
    PortalResendRequest,
    PortalSecretRequest,
    PortalSignOutRequest,
    PortalTenantSecretRequest,
)
from relay.admin.wire_tls import (
    TlsProbeRequest,
    TlsReportRequest,
    TlsReportsRequest,
    TlsReportsResult,
    TlsResult,
)
from relay.core.suppression import FOREVER

__all__ = ["MAX_LISTED", "ControlError", "Done", "Wire"]

MAX_REQUEST: Final = 64 * 1024
"""Octets of a request line."""
MAX_RESULT: Final = 16 * 1024 * 1024
"""Octets of a result line."""
MAX_SUPPRESSED: Final = 100
"""Mailboxes that one request puts on the suppression list; their evidence may be long."""
MAX_CHANGED: Final = 1_000
"""Entries that one request changes."""

Reason: TypeAlias = Annotated[str, Field(min_length=3, max_length=300)]


# --- requests ---------------------------------------------------------


class Selection(Wire):
    """Which entries are meant; all criteria must hold. ``ids``: of entries (``MESSAGE.N``) or whole messages."""

    ids: tuple[Annotated[str, Field(max_length=64)], ...] = Field(default=(), max_length=MAX_CHANGED)
    state: Literal["ready", "deferred", "held"] | None = None
    destination: str = Field(default="", max_length=300)
    message: str = Field(default="", max_length=64)
    recipient: str = Field(default="", max_length=320)

    @property
    def is_empty(self) -> bool:
        """Whether it selects everything."""
        return not (self.ids or self.state or self.destination or self.message or self.recipient)


class ListRequest(Wire):
    """Entries in id order."""

    op: Literal["list"] = "list"
    where: Selection = Selection()
    limit: int = Field(default=500, ge=1, le=MAX_LISTED)


class ShowRequest(Wire):
    """One message or entry with all that is known of it, its content apart."""

    op: Literal["show"] = "show"
    id: str = Field(max_length=64)


class ChangeRequest(Wire):
    """Do something to entries. ``reason`` is kept in the audit trail with who did it; ``remove`` demands it."""

    op: Literal["hold", "release", "retry", "bounce", "remove", "redecide"]
    where: Selection
    reason: str = Field(default="", max_length=300)


class StatsRequest(Wire):
    """Figures of the queue."""

    op: Literal["stats"] = "stats"


class UnsealRequest(Wire):
    """A held message's content, for whoever must decide on it: audited, and an alert."""

    op: Literal["unseal"] = "unseal"
    id: str = Field(max_length=64)
    reason: Reason


class SuppressListRequest(Wire):
    """A page of the suppression list, or all that is known of one mailbox."""

    op: Literal["suppress-list"] = "suppress-list"
    recipient: str = Field(default="", max_length=320)
    after: str = Field(default="", max_length=2000)
    limit: int = Field(default=500, ge=1, le=MAX_LISTED)


class SuppressItem(Wire):
    """One mailbox to suppress. ``until``: unix seconds; else ``days`` from now; neither: until it is removed."""

    address: str = Field(max_length=320)
    tenant: str = Field(default="", max_length=63)
    stream: Literal["", "transactional", "bulk"] = ""
    cause: Literal["hard-bounce", "complaint", "operator"] = "operator"
    evidence: str = Field(default="", max_length=1000)
    since: float = Field(default=0.0, ge=0, le=FOREVER)
    until: float = Field(default=0.0, ge=0, le=FOREVER)
    days: float = Field(default=0.0, ge=0, le=36_500)


class SuppressAddRequest(Wire):
    """Put mailboxes on the suppression list."""

    op: Literal["suppress-add"] = "suppress-add"
    items: tuple[SuppressItem, ...] = Field(min_length=1, max_length=MAX_SUPPRESSED)
    reason: Reason


class SuppressRemoveRequest(Wire):
    """Take a mailbox off the list; for ``exempt_days`` bounces do not put it on again."""

    op: Literal["suppress-remove"] = "suppress-remove"
    address: str = Field(max_length=320)
    tenant: str = Field(default="", max_length=63)
    stream: Literal["", "transactional", "bulk"] = ""
    everywhere: bool = False
    exempt_days: float = Field(default=0.0, ge=0, le=36_500)
    reason: Reason


Request: TypeAlias = Annotated[
    ListRequest
    | ShowRequest
    | ChangeRequest
    | StatsRequest
    | UnsealRequest
    | TlsReportRequest
    | TlsProbeRequest
    | TlsReportsRequest
    | SuppressListRequest
    | SuppressAddRequest
    | SuppressRemoveRequest
    | PortalListRequest
    | PortalRecallRequest
    | PortalExtendRequest
    | PortalResendRequest
    | PortalSecretRequest
    | PortalTenantSecretRequest
    | PortalApproveRequest
    | PortalSignOutRequest,
    Field(discriminator="op"),
]
_REQUEST: Final[TypeAdapter[Request]] = TypeAdapter(Request)


# --- results ----------------------------------------------------------


class EntryView(Wire):
    """One queue entry in a listing: no mailbox, subject or text (law 4)."""

    id: str
    message: str
    state: str
    destination: str
    recipients: int
    method: str
    floor: str
    rule: str
    created_at: float
    due_at: float
    expires_at: float
    attempts: int
    reason: str


class RecipientView(Wire):
    """One recipient of an entry, for the operator who looks at this message.

    ``notify``: what the sender asks to be told (NOTIFY, RFC 3461); empty: nothing was said. ORCPT and ENVID, which may
    hold anything, are not shown.
    """

    entry: str
    number: int
    address: str
    notify: tuple[str, ...] = ()


class MessageView(Wire):
    """A message in the queue; ``findings`` are kinds and counts."""

    id: str
    origin: str
    client: str
    tenant: str
    received_at: float
    size: int
    sender: str
    phi: str
    findings: dict[str, int]
    unreadable: bool


class ListResult(Wire):
    """``more``: there are further entries beyond the limit."""

    entries: tuple[EntryView, ...]
    more: bool = False


class ShowResult(Wire):
    """One message with its entries still in the queue."""

    message: MessageView
    entries: tuple[EntryView, ...]
    recipients: tuple[RecipientView, ...]


class ChangeResult(Wire):
    """``refused`` says why nothing happened to an entry."""

    done: tuple[Done, ...]
    refused: tuple[Done, ...] = ()
    more: bool = False


class StatsResult(Wire):
    """Figures now; ages in seconds."""

    ready: int
    deferred: int
    held: int
    leased: int
    oldest_age: float | None
    bytes: int
    outbox: int
    destinations: tuple[tuple[str, int], ...]


class UnsealResult(Wire):
    """``content``: base64, cut at the server's limit when ``truncated``."""

    id: str
    content: str = Field(repr=False)
    size: int
    truncated: bool


class SuppressionRow(Wire):
    """One suppression, for the operator who looks at the list."""

    address: str
    tenant: str
    stream: str
    cause: str
    evidence: str
    since: float
    until: float
    by: str


class SuppressListResult(Wire):
    """``after`` begins the next page; empty at the end."""

    rows: tuple[SuppressionRow, ...]
    after: str = ""


class SuppressDone(Wire):
    """How many rows were added or removed."""

    done: int


Result: TypeAlias = (
    ListResult
    | ShowResult
    | ChangeResult
    | StatsResult
    | UnsealResult
    | TlsResult
    | TlsReportsResult
    | SuppressListResult
    | SuppressDone
    | PortalListResult
)

RESULT_OF: Final[dict[str, type[Wire]]] = {
    "list": ListResult,
    "show": ShowResult,
    "stats": StatsResult,
    "unseal": UnsealResult,
    "suppress-list": SuppressListResult,
    "suppress-add": SuppressDone,
    "suppress-remove": SuppressDone,
    "portal-list": PortalListResult,
    "tls-report": TlsResult,
    "tls-probe": TlsResult,
    "tls-reports": TlsReportsResult,
}
"""Operation to its result; all others have :class:`ChangeResult`."""


def read_request(line: bytes) -> Request:
    """A request line.

    Raises:
        ControlError: saying which field is wrong, without its value.
    """
    try:
        return _REQUEST.validate_python(orjson.loads(line))
    except orjson.JSONDecodeError as error:
        raise ControlError("the request is not JSON") from error
    except ValidationError as error:
        raise ControlError(explain(error)) from error


def explain(error: ValidationError) -> str:
    """Which fields are wrong, without their values."""
    faults = (f"{'.'.join(map(str, one['loc']))}: {_fault(one)}" for one in error.errors(include_input=False)[:5])
    return "the request is not valid: " + "; ".join(faults)


def _fault(one: Mapping[str, Any]) -> str:
    """What a person who types a reason or an id does wrong, in words; all else as the model says it."""
    if one["type"] == "string_too_short":
        return f"give {one['ctx']['min_length']} characters at least"
    if one["type"] == "string_too_long":
        return f"is longer than {one['ctx']['max_length']} characters"
    return str(one["msg"])


def write_result(result: Wire) -> bytes:
    """The line of a success."""
    return _line({"ok": True, "result": result.model_dump(mode="json")})


def write_error(text: str) -> bytes:
    """The line of a refusal."""
    return _line({"ok": False, "error": text})


def _line(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
