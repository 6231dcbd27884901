"""What of a message is its text and what is a file: chosen from the outline alone."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from relay.portal.message.files import is_risky, safe_name
from relay.portal.message.outline import Outline, Part

PICTURES: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""What may be shown inside a message. SVG may not: it can hold scripts."""
_TEXTS: Final = frozenset({"text/plain", "text/html", "application/xhtml+xml"})
_SIGNATURES: Final = frozenset(
    {"application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One stretch of text, in the forms in which the message brings it; at least one is there."""

    html: Part | None = None
    text: Part | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A part that can be saved.

    Attributes:
        part: which.
        name: safe on any system.
        octets: about how many it has when decoded.
        risky: opening it can run something.
    """

    part: Part
    name: str = field(repr=False)
    octets: int
    risky: bool

    @property
    def is_picture(self) -> bool:
        """Whether it can be shown inside a message."""
        return self.part.content_type in PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A message, or one inside it, sorted.

    Attributes:
        message: whose headers are these.
        bodies: its text, in order.
        pictures: Content-ID to part: what HTML may show in its place.
        files: in order; pictures that the HTML shows are among them, for only the HTML knows.
        inner: messages inside; each is among the files, too.
    """

    message: Part
    bodies: tuple[Body, ...]
    pictures: Mapping[str, Part]
    files: tuple[File, ...]
    inner: tuple["View", ...] = ()


def arrange(outline: Outline, *, unnamed: str, message_name: str) -> View:
    """Sort a message's parts.

    Args:
        outline: of the message.
        unnamed: the name of a file without one, such as ``file``; a number follows.
        message_name: the name of a message inside.
    """
    return _Arranger(outline, unnamed, message_name).view(outline.parts[0], is_outer=True)


class _Arranger:
    def __init__(self, outline: Outline, unnamed: str, message_name: str) -> None:
        self._outline = outline
        self._names = unnamed, message_name
        self._bodies: list[Body] = []
        self._pictures: dict[str, Part] = {}
        self._files: list[File] = []
        self._inner: list[View] = []

    def view(self, message: Part, *, is_outer: bool) -> View:
        if is_outer:
            self._visit(message)
        else:
            message = self._outline.children(message.index)[0]  # what is inside has headers of its own
            self._visit(message)
        return View(
            message=message,
            bodies=tuple(self._bodies),
            pictures=self._pictures,
            files=tuple(self._files),
            inner=tuple(self._inner),
        )

    def _visit(self, part: Part) -> None:
        children = self._outline.children(part.index)
        if part.content_type == "multipart/alternative" and children:
            self._alternative(children)
        elif part.content_type == "multipart/related" and children:
            self._related(part, children)
        elif part.is_container and children:
            for child in children:
                self._visit(child)
        elif part.content_type == "message/rfc822" and children:
            self._file(part)
            self._inner.append(_Arranger(self._outline, *self._names).view(part, is_outer=False))
        elif _is_text(part) or (part.is_container and part.start < part.end):
            self._bodies.append(Body(html=part) if part.content_type in _TEXTS - {"text/plain"} else Body(text=part))
        elif not part.is_container and part.content_type not in _SIGNATURES:
            self._leaf(part)

    def _alternative(self, children: tuple[Part, ...]) -> None:
        """The last HTML and the last plain text are one body; pictures and files of all are kept."""
        gathered: list[Body] = []
        for child in children:
            before = len(self._bodies)
            self._visit(child)
            gathered += self._bodies[before:]
            del self._bodies[before:]
        html = next((body.html for body in reversed(gathered) if body.html), None)
        text = next((body.text for body in reversed(gathered) if body.text), None)
        if html or text:
            self._bodies.append(Body(html=html, text=text))

    def _related(self, part: Part, children: tuple[Part, ...]) -> None:
        """The root is the body (RFC 2387 section 3.2), the others are what it shows."""
        root = next((child for child in children if part.root and child.content_id == part.root), children[0])
        self._visit(root)
        for child in children:
            if child is root:
                continue
            if child.is_container:
                self._visit(child)
            else:
                self._leaf(child)

    def _leaf(self, part: Part) -> None:
        if part.content_id and part.content_type in PICTURES:
            self._pictures.setdefault(part.content_id, part)
        self._file(part)

    def _file(self, part: Part) -> None:
        unnamed, message_name = self._names
        number = len(self._files) + 1
        otherwise = message_name if part.content_type == "message/rfc822" else f"{unnamed} {number}"
        name = safe_name(part.filename, part.content_type, otherwise)
        octets = part.end - part.start
        if part.encoding == "base64":
            octets = octets * 57 // 78  # lines of 76 characters and their ends hold 57 octets
        self._files.append(File(part=part, name=name, octets=octets, risky=is_risky(name)))


def _is_text(part: Part) -> bool:
    return part.content_type in _TEXTS and not part.attached and not part.filename


def all_files(view: View) -> Iterator[File]:
    """The files of a message and of the messages inside it."""
    yield from view.files
    for inner in view.inner:
        yield from all_files(inner)
