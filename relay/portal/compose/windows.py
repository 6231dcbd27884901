"""One answer in two windows: nothing that a reader wrote is lost, and nothing is sent that the window did not show."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from relay.core.portal_drafts import Draft, Wording
from relay.portal.tokens import digest

_MOST: Final = 4
"""Wordings that are kept beside an answer's own (law 6)."""


class Clash(StrEnum):
    """What happened to an answer behind a window's back."""

    APART = "two_windows"
    """Another window writes it, too, or changed what this one does not show."""
    GONE = "gone"
    """Another window sent it, or threw it away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The page on which a reader writes.

    Attributes:
        page: its own random token.
        seen: :func:`mark` of the draft that it showed; ``None``: a page of a version before, which is believed to have
            shown all.
    """

    page: str = ""
    seen: str | None = None

    @property
    def _words(self) -> str:
        return (self.seen or "").partition(".")[0]

    def wrote(self, there: Draft) -> bool:
        """Whether this window wrote the words that are kept, or showed them."""
        return self.seen is None or there.page == self.page or self._words == _words(there)

    def began(self) -> bool:
        """Whether the window showed words or files that were kept."""
        return self.seen is not None and self.seen != mark(None)

    def shows_rest(self, there: Draft, fresh: frozenset[str] = frozenset()) -> bool:
        """Whether it showed the files that are there, those apart that came with its form, and what stands beside."""
        return self.seen is None or self.seen.partition(".")[2] == _rest(there, self.page, fresh)


def mark(draft: Draft | None) -> str:
    """Of what a page shows: the words, and the rest, which is files and what stands beside."""
    return f"{_words(draft)}.{_rest(draft, '', frozenset())}"


def merged(there: Draft, mine: Draft, window: Window, *, pressed: bool) -> Draft:
    """What is kept when a window saves: of two that differ, both.

    Args:
        there: what is kept.
        mine: what this window holds.
        window: which.
        pressed: the reader pressed a button, so that his words come first; else they are kept beside.
    """
    if not clashes(there, mine, window):
        kept = replace(mine, id=there.id, post_id=there.post_id)
        beside = there.beside
    elif pressed:
        kept = replace(mine, id=there.id, post_id=there.post_id)
        beside = (*there.beside, Wording(page=there.page, text=there.text, to=there.to, at=there.saved_at))
    else:
        kept = replace(there, saved_at=mine.saved_at)
        beside = (*there.beside, Wording(page=window.page, text=mine.text, to=mine.to, at=mine.saved_at))
    newest = {one.page: one for one in beside}
    known = {(kept.text, kept.to), ("", "")}
    apart = [one for one in newest.values() if one.page != kept.page and (one.text, one.to) not in known]
    return replace(kept, uploads=(), beside=tuple(sorted(apart, key=lambda one: one.at)[-_MOST:]))


def clashes(there: Draft, mine: Draft, window: Window) -> bool:
    """Whether what is kept came from another window, and this one neither showed it nor says the same."""
    return not window.wrote(there) and (mine.text, mine.to) != (there.text, there.to)


def _words(draft: Draft | None) -> str:
    return digest("\0".join((draft.text, draft.to) if draft else ("", "")))


def _rest(draft: Draft | None, page: str, fresh: frozenset[str]) -> str:
    if draft is None:
        return digest("")
    files = [upload.id for upload in draft.uploads if upload.id not in fresh]
    beside = [f"{one.page}\0{one.text}\0{one.to}" for one in draft.beside if not page or one.page != page]
    return digest("\0".join([*files, *beside]))
