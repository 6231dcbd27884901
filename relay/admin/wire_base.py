"""What all requests and results of the control socket have in common."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from relay.core.errors import PosternError

MAX_LISTED: Final = 10_000
"""Entries that one list shows."""


class ControlError(PosternError):
    """The control socket refused a request, cannot be reached, or answered something unreadable."""


class Wire(BaseModel):
    """Base of all: frozen, and strict about unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Done(Wire):
    """What became of an entry."""

    id: str
    outcome: str
