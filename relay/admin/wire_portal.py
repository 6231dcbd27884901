"""What operators ask about messages in the portal, and what they get."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from relay.admin.wire_base import MAX_LISTED, Wire

Named = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=64)], ...], Field(min_length=1, max_length=1_000)]
"""Ids of deposits, or of messages, which mean all deposits of theirs."""
Why = Annotated[str, Field(min_length=3, max_length=300)]
State = Literal["waiting", "opened", "expired", "recalled", "withdrawn"]


class PortalListRequest(Wire):
    """Messages in the portal, the newest first."""

    op: Literal["portal-list"] = "portal-list"
    mailbox: str = Field(default="", max_length=320)
    message: str = Field(default="", max_length=64)
    tenant: str = Field(default="", max_length=63)
    states: tuple[State, ...] = ()
    after: str = Field(default="", max_length=64)
    limit: int = Field(default=500, ge=1, le=MAX_LISTED)


class PortalRecallRequest(Wire):
    """Take messages back: they are deleted, and nobody reads them any more."""

    op: Literal["portal-recall"] = "portal-recall"
    ids: Named
    reason: Why


class PortalExtendRequest(Wire):
    """Let messages be read for so many days from now."""

    op: Literal["portal-extend"] = "portal-extend"
    ids: Named
    days: float = Field(gt=0, le=366)
    reason: Why


class PortalResendRequest(Wire):
    """Send the notice once more."""

    op: Literal["portal-resend"] = "portal-resend"
    ids: Named
    reason: Why


class PortalSecretRequest(Wire):
    """Set the secret that opens messages, in the place of one that was set before; all tries are left again."""

    op: Literal["portal-secret"] = "portal-secret"
    ids: Named
    secret: str = Field(min_length=4, max_length=256, repr=False)
    reason: Why


class PortalTenantSecretRequest(Wire):
    """Set the secret that opens all that a tenant sends a mailbox, where a message has none of its own."""

    op: Literal["portal-tenant-secret"] = "portal-tenant-secret"
    mailbox: str = Field(min_length=3, max_length=320)
    tenant: str = Field(max_length=63)
    secret: str = Field(min_length=4, max_length=256, repr=False)
    reason: Why


class PortalApproveRequest(Wire):
    """After a recovery: let a mailbox see its older messages again."""

    op: Literal["portal-approve"] = "portal-approve"
    mailbox: str = Field(min_length=3, max_length=320)
    reason: Why


class PortalSignOutRequest(Wire):
    """End all sessions of a mailbox, and forget its devices."""

    op: Literal["portal-sign-out"] = "portal-sign-out"
    mailbox: str = Field(min_length=3, max_length=320)
    reason: Why


class PortalRow(Wire):
    """One message in the portal, without what it says."""

    id: str
    message_id: str
    number: int
    mailbox: str
    tenant: str
    state: str
    deposited_at: float
    expires_at: float
    opened_at: float | None
    reason: str
    rule: str
    secret: str
    size: int


class PortalListResult(Wire):
    """``after`` begins the next page; empty at the end."""

    rows: tuple[PortalRow, ...]
    after: str = ""


PortalRequest: TypeAlias = (
    PortalListRequest
    | PortalRecallRequest
    | PortalExtendRequest
    | PortalResendRequest
    | PortalSecretRequest
    | PortalTenantSecretRequest
    | PortalApproveRequest
    | PortalSignOutRequest
)
