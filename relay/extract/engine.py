"""The scan engine: a message's bytes to a report. Synchronous; what only the helper may parse is left to it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final

from relay.core.envelope import Attachment
from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.core.ports import ScanReport
from relay.mail.leaf import Leaf, MimeLimits
from relay.mail.mime import read_message
from relay.mail.text import normalise, text_of
from relay.scan.find import Finder
from relay.scan.icd import IcdTable
from relay.scan.judge import Judge, ScanLimits
from relay.scan.lexicon import Lexicon
from relay.scan.model import SUBJECT, Passage, Weights
from relay.scan.names import NameFinder, NameTable
from relay.scan.shapes import ShapeFinder, all_shapes

_LEXICONS: Final = ("exam.txt", "spanish.txt", "care.txt", "conditions.txt", "drugs.txt")
_SPOKEN_HEADERS: Final = frozenset({"comments", "keywords", "thread-topic", "content-description"})
_TEXT_LIKE: Final = frozenset(
    {"application/json", "application/xml", "application/xhtml+xml", "application/ics", "application/csv"}
)
_SIGNATURES: Final = frozenset(
    {"application/pgp-signature", "application/pkcs7-signature", "application/x-pkcs7-signature"}
)
_ENCRYPTED: Final = frozenset({"application/pgp-encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Limits of reading and of judging."""

    mime: MimeLimits = field(default_factory=MimeLimits)
    scan: ScanLimits = field(default_factory=ScanLimits)


def load_judge(digest: Callable[[str], str], limits: ScanLimits | None = None) -> Judge:
    """Build the judge from the data files of the package.

    Args:
        digest: keyed digest of a finding's normalised text, hex (``Vault.digest``).
        limits: what a verdict may hold.
    """
    data = files("relay.scan") / "data"
    weights = Weights.parse((data / "weights.yaml").read_bytes())
    lexicon = Lexicon.parse(((data / name).read_text("utf-8") for name in _LEXICONS), weights.levels)
    names = NameFinder(NameTable.parse((data / "names.txt").read_bytes()), weights.identifiers)
    shapes = ShapeFinder(all_shapes(IcdTable((data / "icd10cm.bin").read_bytes())))
    return Judge(Finder(lexicon, names, shapes, weights), weights, digest, limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading a message gave, before it is judged. It holds text: it stays in memory and in this process.

    Attributes:
        passages: normalised texts, the subject first.
        faults: (part, reason): what could not be read.
        deferred: whether an attachment waits for the helper's extraction.
    """

    subject: str
    headers: tuple[tuple[str, str], ...]
    passages: tuple[Passage, ...] = field(repr=False)
    faults: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]
    deferred: bool = False


class ScanEngine:
    """Reads and judges one message at a time. Safe to share between tasks: it keeps nothing of a message."""

    def __init__(self, judge: Judge, limits: EngineLimits | None = None) -> None:
        self._judge = judge
        self._limits = limits or EngineLimits()

    def scan(self, content: bytes) -> ScanReport:
        """Scan a message. Never raises for what is in it: what cannot be read is a finding ``unreadable`` (law 3)."""
        try:
            return self.report(self.read(content))
        except Exception:  # noqa: BLE001 - closed when in doubt (law 3): a fault of ours must not let a message through
            return unreadable_report("crash")

    def scan_text(self, text: str) -> PhiVerdict:
        """Judge bare text, as part ``1``."""
        return self._judge.judge([Passage("1", normalise(text))])

    def read(self, content: bytes) -> Reading:
        """Read a message without judging it."""
        tree = read_message(content, self._limits.mime)
        subject = next((value for name, value in tree.headers if name == "subject"), "")
        passages = [Passage(SUBJECT, normalise(subject))] if subject else []
        passages += [Passage(f"header:{name}", value) for name, value in tree.headers if name in _SPOKEN_HEADERS]
        faults = list(tree.faults)
        attachments: list[Attachment] = []
        for leaf in tree.leaves:
            text, reason = _read(leaf)
            if text:
                passages.append(Passage(leaf.number, text))
            if reason:
                faults.append((leaf.number, reason))
            if leaf.attached or leaf.filename or text is None:
                attachments.append(
                    Attachment(type=leaf.content_type, name=leaf.filename, size=len(leaf.data), unreadable=reason)
                )
        passages += [Passage(part, normalise(text)) for part, text in tree.notes]
        return Reading(
            subject=subject,
            headers=tree.headers,
            passages=tuple(passages),
            faults=tuple(faults),
            attachments=tuple(attachments),
        )

    def report(self, reading: Reading, extra_faults: tuple[tuple[str, str], ...] = ()) -> ScanReport:
        """Judge what was read; ``extra_faults`` are findings ``unreadable`` that the reader of it could not know."""
        return ScanReport(
            verdict=self._judge.judge(reading.passages, (*extra_faults, *reading.faults)),
            subject=reading.subject,
            headers=reading.headers,
            attachments=reading.attachments,
        )


def bare_reading(content: bytes) -> Reading:
    """Bare text as a reading, in part ``1``."""
    text = text_of(content, "text/plain", "")
    return Reading(subject="", headers=(), passages=(Passage("1", text),), faults=(), attachments=())


def unreadable_report(reason: str) -> ScanReport:
    """The report on a message of which nothing could be read."""
    return ScanReport(verdict=unreadable_verdict(reason), subject="", headers=())


def unreadable_verdict(reason: str) -> PhiVerdict:
    """The verdict on a message of which nothing could be read: ``timeout``, ``crash``, ``size``."""
    finding = Finding(kind=f"unreadable: {reason}", group=FindingGroup.UNREADABLE, part="1", start=0, end=0)
    return PhiVerdict(phi=Phi.POSSIBLE, findings=(finding,), engine="postern-scan")


def _read(leaf: Leaf) -> tuple[str | None, str]:
    """A leaf's text, ``None`` when it has none, and why it could not be read, or empty."""
    kind = leaf.content_type
    if kind.startswith("text/") or kind in _TEXT_LIKE:
        return text_of(leaf.data, kind, leaf.charset), leaf.fault
    if kind in _SIGNATURES or not leaf.data:
        return None, ""
    if kind in _ENCRYPTED:
        return None, "encrypted"
    if _looks_like_text(leaf.data):
        return text_of(leaf.data, "text/plain", leaf.charset), leaf.fault
    return None, "format"


def _looks_like_text(data: bytes) -> bool:
    sample = data[:4096]
    return sum(1 for byte in sample if byte < 32 and byte not in b"\t\n\r\f\x1b") == 0
