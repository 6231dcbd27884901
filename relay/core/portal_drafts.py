"""What a reader of the portal is writing: kept from the first word, so that no bad network and no log-off loses it.

A draft belongs to a deposit, and so to one mailbox. Files are kept in pieces as they arrive: an upload that broke off
goes on where it stopped.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class DraftKind(StrEnum):
    """What will become of it. A deposit has at most one draft of each."""

    REPLY = "reply"
    FORWARD = "forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file of a draft.

    Attributes:
        id: random, URL-safe.
        name: safe on any system.
        content_type: as the browser said.
        size: octets of the whole.
        received: octets that have arrived.
    """

    id: str
    name: str = field(repr=False)
    content_type: str
    size: int
    received: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all of it has arrived."""
        return self.received == self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """What was written in another window than the draft's own words.

    Attributes:
        page: random: of the window.
        text: as written so far.
        to: as typed: whom it is forwarded to.
        at: unix seconds.
    """

    page: str
    text: str = field(repr=False)
    to: str = field(default="", repr=False)
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A reply or a forward that was not sent.

    Attributes:
        id: random, URL-safe.
        deposit_id: what it answers.
        kind: which.
        post_id: the queue id that the message will have: sending twice sends once.
        text: as written so far.
        to: as typed: whom it is forwarded to.
        to_all: a reply to all.
        saved_at: unix seconds.
        uploads: in the order in which they were added.
        page: random: of the window in which the words were written.
        beside: words that other windows hold, the oldest first.
    """

    id: str
    deposit_id: str
    kind: DraftKind
    post_id: str
    text: str = field(default="", repr=False)
    to: str = field(default="", repr=False)
    to_all: bool = False
    saved_at: float
    uploads: tuple[Upload, ...] = ()
    page: str = ""
    beside: tuple[Wording, ...] = ()


class Drafts(Protocol):
    """Where drafts are kept, sealed. Every method is one transaction.

    Raises ``StoreUnavailableError`` while the database is away.
    """

    async def of(self, deposit_id: str, kind: DraftKind) -> Draft | None:
        """The draft, if one was begun."""

    async def save(self, draft: Draft, *, onto: Callable[[Draft], Draft] | None = None) -> Draft:
        """Keep its words in the place of those kept before; its files stay. The draft as it stands.

        One that was begun meanwhile for the same deposit and kind keeps its id and its ``post_id``.

        Args:
            draft: what is kept where nothing is.
            onto: what is kept in the place of one that is there; without it, ``draft``. May be called again.
        """

    async def add(self, draft_id: str, upload: Upload, *, most: int, octets: int) -> bool:
        """Make room for a file; whether the draft is still there, and holds no more than its bounds with it.

        Args:
            draft_id: which draft.
            upload: of which nothing has arrived.
            most: files that the draft may have.
            octets: of all of them.
        """

    async def append(self, upload_id: str, start: int, octets: bytes) -> int:
        """Take the octets of a file from ``start`` on, if they are the next; how many have arrived in all.

        What arrived before is passed over, and so is what would leave a gap or run over the file's size.
        """

    async def finish(self, upload_id: str) -> None:
        """What has arrived of a file is all of it: its size was not known before."""

    def content(self, upload_id: str) -> AsyncIterator[bytes]:
        """What has arrived of a file.

        Raises:
            CorruptError: a piece does not authenticate.
        """

    async def remove(self, draft_id: str, upload_id: str) -> None:
        """Delete a file."""

    async def discard(self, draft_id: str) -> None:
        """Delete the draft and its files."""

    async def discard_unreadable(self, deposit_id: str, kind: DraftKind) -> None:
        """Delete the draft and its files if it cannot be opened; one that can stays."""

    async def sent(self, draft: Draft, onward: Callable[[Draft], Draft | None]) -> None:
        """Delete it with the files that it names, if it is still there.

        Args:
            draft: as it was sent.
            onward: is given the draft as it stands now, with the files alone that were not sent; what it gives is kept
                in its place, with these files. May be called again.
        """

    async def sweep(self, *, before: float) -> int:
        """Delete drafts not saved since then, and those whose deposit has ended; how many."""
