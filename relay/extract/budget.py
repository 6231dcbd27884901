"""What reading one message's attachments may cost (law 6), and what a reader gives or says instead."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from relay.extract.formats.ocr import PictureBudget, PictureReader

_CHUNK: Final = 1 << 20


class UnreadableError(Exception):
    """An attachment, or the rest of it, cannot be read; ``reason`` becomes the finding ``unreadable: REASON``."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentLimits:
    """Limits over all attachments of one message.

    Attributes:
        depth: containers inside one another (an archive in a message in an archive).
        files: files in all.
        octets: octets of all that is unpacked; more is ``unreadable: bomb``.
        characters: characters of text taken; more is ``unreadable: size``.
        pages: pages of one document.
        picture_seconds: CPU time for reading the pictures of one message, where ``postern[ocr]`` is installed.
    """

    depth: int = 6
    files: int = 500
    octets: int = 200 * 1024 * 1024
    characters: int = 20_000_000
    pages: int = 3000
    picture_seconds: float = 4.0


class Budget:
    """What is left of the limits while one message is read."""

    def __init__(self, limits: AttachmentLimits, pictures: PictureReader | None = None) -> None:
        self.limits = limits
        self.pictures = PictureBudget(pictures, limits.picture_seconds)
        self._octets = 0
        self._files = 0

    def file(self, depth: int) -> None:
        """Count a file.

        Raises:
            UnreadableError: ``depth`` or ``files``.
        """
        self._files += 1
        if depth > self.limits.depth:
            raise UnreadableError("depth")
        if self._files > self.limits.files:
            raise UnreadableError("files")

    def spend(self, octets: int) -> None:
        """Count unpacked octets.

        Raises:
            UnreadableError: ``bomb``.
        """
        self._octets += octets
        if self._octets > self.limits.octets:
            raise UnreadableError("bomb")

    def read(self, stream: BinaryIO) -> bytes:
        """All of an unpacking stream, never more than the limit in memory.

        Raises:
            UnreadableError: ``bomb``.
        """
        return b"".join(self._chunks(stream))

    def _chunks(self, stream: BinaryIO) -> Iterator[bytes]:
        while chunk := stream.read(_CHUNK):
            self.spend(len(chunk))
            yield chunk


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What a reader made of a file.

    Attributes:
        type: the format's name for policies: ``pdf``, ``docx``, ``hl7v2`` and so on.
        text: its text, labels before values.
        children: (name, content) of files inside.
        structure: the clinical format it is, or empty.
        patient: a clinical document names its patient.
        faults: reasons why parts of it could not be read.
    """

    type: str
    text: str = field(default="", repr=False)
    children: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)
    structure: str = ""
    patient: bool = False
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Text of one file, at its place below the part: ``2:1.3`` is the third file in the first file in part 2."""

    part: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All that was read of one attachment and the files inside it.

    Attributes:
        type: what the attachment is.
        pieces: texts.
        structures: (part, clinical format, whether it names its patient).
        faults: (part, reason).
    """

    type: str
    pieces: tuple[Piece, ...] = ()
    structures: tuple[tuple[str, str, bool], ...] = ()
    faults: tuple[tuple[str, str], ...] = ()
