"""Limits of the store."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Limits of the store.

    Attributes:
        reserve_bytes: free bytes on the disk below which no message is kept; what ends messages may still use them.
        max_bytes: octets of message content the queue may hold; ``None``: as many as the disk takes.
        large_body: octets of content from which a body becomes a file beside the database.
        max_batch: units of work from which on a commit takes up no more.
        top_destinations: destinations that ``stats`` names.
        max_known: things of one kind known of others; above it those of that kind that end first are forgotten.
        max_memos: what is remembered of mail that left: no more than so many of the last.
    """

    reserve_bytes: int = 256 * 1024 * 1024
    max_bytes: int | None = None
    large_body: int = 256 * 1024
    max_batch: int = 512
    top_destinations: int = 50
    max_known: int = 200_000
    max_memos: int = 5_000_000
