"""The scan engine: a message's bytes to a report. Synchronous; what only the helper may parse is left to it."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from importlib.resources import files
from typing import Final, Protocol

from relay.core.envelope import Attachment
from relay.core.errors import Problem, ProblemsError
from relay.core.phi import Finding, FindingGroup, Phi, PhiVerdict
from relay.core.ports import ScanReport
from relay.extract.budget import Budget, Contents
from relay.extract.formats.image import is_picture_of_something
from relay.extract.inline import read_text_format, shown
from relay.extract.opaque import holds_pgp_message, is_signature
from relay.extract.sniff import TEXT, sniff
from relay.extract.tables import damaged, load_tables, mapped, read_sources
from relay.mail.aside import data_files
from relay.mail.card import card_files, is_card
from relay.mail.charset import decode
from relay.mail.leaf import Leaf, MimeLimits
from relay.mail.mime import read_message
from relay.mail.text import normalise, text_of
from relay.mail.uuencode import holds_yenc, uuencoded
from relay.scan.compiled import DamagedTablesError
from relay.scan.detector import Detector
from relay.scan.endings import EndingFinder
from relay.scan.everywhere import EverywhereFinder
from relay.scan.find import Finder, Instruments
from relay.scan.icd import IcdTable
from relay.scan.judge import Judge, ScanLimits
from relay.scan.lexicon import Lexicon
from relay.scan.manner import Manner
from relay.scan.model import SUBJECT, Passage, Weights
from relay.scan.names import NameFinder, NameTable
from relay.scan.shapes import ShapeFinder, all_shapes
from relay.scan.strangers import StrangerFinder
from relay.scan.told import Teller
from relay.scan.tuning import Tuning
from relay.scan.way import NATIVE
from relay.scan.word_tables import WordTables
from relay.scan.words import Words

_SPOKEN_HEADERS: Final = frozenset({"comments", "keywords", "thread-topic", "content-description"})
_ENCRYPTED: Final = frozenset({"application/pgp-encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})


DEFERRED: Final = "deferred"
"""The fault of an attachment that only the helper may read."""
_BINARY: Final = "application/octet-stream"
_BODY: Final = frozenset({"text", "html"})
_MESSAGE_NAMES: Final = (".eml", ".emlx", ".mht", ".mhtml", ".mbox")
_UNNAMED: Final = frozenset({"text", "html", "unknown", "image"})  # the MIME type says more


class AttachmentReader(Protocol):
    """Reads attachments; only the helper (and the command line) has one, workers leave it to the helper."""

    def budget(self) -> Budget:
        """A fresh budget, for all attachments of one message."""

    def read(self, leaf: Leaf, kind: str, budget: Budget) -> Contents:
        """Read a part of the given format; what cannot be read is in the faults."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Limits of reading and of judging."""

    mime: MimeLimits = field(default_factory=MimeLimits)
    scan: ScanLimits = field(default_factory=ScanLimits)


def load_judge(
    digest: Callable[[str], str],
    limits: ScanLimits | None = None,
    tuning: Tuning | None = None,
    *,
    native: bool = NATIVE,
) -> Judge:
    """Build the judge from the data files of the package and what the operator added.

    Args:
        digest: keyed digest of a finding's normalised text, hex (``Vault.digest``).
        limits: what a verdict may hold.
        tuning: the operator's own patterns, terms, exclusions and weights.
        native: whether the part written in C is used, where it is there; it finds the same.

    Raises:
        ProblemsError: the tuning names a kind or thresholds that cannot be, a detector cannot be loaded, or the
            compiled words are damaged.
    """
    tuning = tuning or Tuning()
    data = files("relay.scan") / "data"
    weights = Weights.parse((data / "weights.yaml").read_bytes())
    if problems := tuple(tuning.problems(weights)):
        raise ProblemsError(*problems)
    manner = Manner.parse((data / "manner.yaml").read_bytes(), (data / "manner-words.txt").read_bytes())

    def judge_by(own: Tuning, of_clients: Mapping[str, Judge] | None = None) -> Judge:
        return Judge(*_tuned(shipped, weights, own), digest, limits, of_clients, manner)

    try:
        shipped = _instruments(weights, native=native)
        judge = judge_by(tuning, {client: judge_by(tuning.for_client(client)) for client in tuning.clients})
    except DamagedTablesError as error:
        raise ProblemsError(damaged(error)) from error
    gc.collect()
    gc.freeze()  # the tables live as long as the process: no collection need walk them again
    return judge


def _instruments(weights: Weights, *, native: bool) -> Instruments:
    """What finds, without an operator's changes."""
    data = files("relay.scan") / "data"
    shapes = ShapeFinder(all_shapes(IcdTable(mapped(data / "icd10cm.bin"))), native=native)
    sources = read_sources(weights, shapes)
    endings = EndingFinder(native=native)
    lexicon: Lexicon | WordTables
    if native:
        lexicon = load_tables(sources)
        names = NameTable.listed(lexicon.listed, lexicon.nobody())
    else:
        lexicon, names = sources.lexicon(), sources.names()
        endings.warm((*sources.lexicons, *sources.lists))
    teller = Teller(StrangerFinder(names, Words(mapped(data / "words.bin")), weights.identifiers), weights.identifiers)
    return Instruments(
        lexicon=lexicon,
        names=NameFinder(names, weights.identifiers),
        shapes=shapes,
        endings=endings,
        teller=teller,
        own=EverywhereFinder(()),
        detectors=load_detectors(),
    )


def _tuned(shipped: Instruments, weights: Weights, tuning: Tuning) -> tuple[Finder, Weights]:
    """What an operator's changes make of the shipped instruments; what they leave alone is shared.

    Raises:
        ProblemsError: there is more of something than the tables have room for.
    """
    after = tuning.apply(weights)
    lexicon, names, teller = shipped.lexicon, shipped.names, shipped.teller
    if tuning.terms or tuning.excluded:
        try:
            lexicon = lexicon.tuned(tuning.terms, tuning.excluded)
        except OverflowError as error:
            hint = "write shorter terms, or fewer that begin or end alike"
            raise ProblemsError(Problem(where=f"{tuning.name}: terms", what=f"hold {error}", hint=hint)) from error
    if after.identifiers != weights.identifiers:
        names, teller = names.weighed(after.identifiers), teller.weighed(after.identifiers)
    instruments = replace(shipped, lexicon=lexicon, names=names, teller=teller, own=EverywhereFinder(tuning.shapes))
    excludes = tuning.excludes if tuning.excluded_values else None
    return Finder(instruments, after, excludes), after


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What reading a message gave, before it is judged. It holds text: it stays in memory and in this process.

    Attributes:
        passages: normalised texts, the subject first.
        structures: (part, clinical format, whether it names its patient).
        faults: (part, reason): what could not be read.
        deferred: whether an attachment waits for the helper's extraction; its fault is ``deferred`` until then.
    """

    subject: str
    headers: tuple[tuple[str, str], ...]
    passages: tuple[Passage, ...] = field(repr=False)
    faults: tuple[tuple[str, str], ...]
    attachments: tuple[Attachment, ...]
    structures: tuple[tuple[str, str, bool], ...] = ()
    deferred: bool = False


def load_detectors() -> tuple[Detector, ...]:
    """Detectors that installed packages bring under the entry point ``postern.detectors``.

    Raises:
        ProblemsError: one cannot be imported, or is no detector: to go on without it would lower protection (law 3).
    """
    found = []
    for entry in entry_points(group="postern.detectors"):
        try:
            detector = entry.load()()
        except Exception as error:
            problem = Problem(
                where=entry.value, what="the detector cannot be loaded", hint="mend or remove its package"
            )
            raise ProblemsError(problem) from error
        if not isinstance(detector, Detector):
            raise ProblemsError(
                Problem(where=entry.value, what="is no detector", hint="see relay.scan.detector.Detector")
            )
        found.append(detector)
    return tuple(found)


class ScanEngine:
    """Reads and judges one message at a time. Safe to share between tasks: it keeps nothing of a message."""

    def __init__(
        self, judge: Judge, limits: EngineLimits | None = None, extractor: AttachmentReader | None = None
    ) -> None:
        self._judge = judge
        self._limits = limits or EngineLimits()
        self._extractor = extractor

    def scan(self, content: bytes, client: str = "") -> ScanReport:
        """Scan a message of this client's.

        Never raises for what is in it: what cannot be read is a finding ``unreadable`` (law 3).
        """
        try:
            return self.report(self.read(content), client=client)
        except Exception:  # noqa: BLE001 - closed when in doubt (law 3): a fault of ours must not let a message through
            return unreadable_report("crash")

    def scan_text(self, text: str, client: str = "") -> PhiVerdict:
        """Judge bare text, as part ``1``."""
        return self._judge.of(client).judge([Passage("1", normalise(text))])

    def prove(self, tuning: Tuning) -> None:
        """Try the tests that the operator's additions bring.

        Raises:
            ProblemsError: every one that fails.
        """
        problems = [found for test in tuning.tests if (found := test.problem(self.scan_text(test.text, test.client)))]
        if problems:
            raise ProblemsError(*problems)

    def read(self, content: bytes) -> Reading:
        """Read a message without judging it."""
        tree = read_message(content, self._limits.mime)
        subjects = [value for name, value in tree.headers if name == "subject" and value]
        gathered = _Gathered(self._extractor)
        if subjects:  # of several some programs show the first, others the last
            gathered.text(SUBJECT, "\n".join(subjects))
        for name, value in tree.headers:
            if name in _SPOKEN_HEADERS:
                gathered.text(f"header:{name}", value)
        for leaf in tree.leaves:
            gathered.leaf(leaf)
        for part, text in tree.notes:
            gathered.text(part, text)
        return Reading(
            subject=subjects[0] if subjects else "",
            headers=tree.headers,
            passages=tuple(gathered.passages),
            structures=tuple(gathered.structures),
            faults=(*tree.faults, *gathered.faults),
            attachments=tuple(gathered.attachments),
            deferred=gathered.deferred,
        )

    def report(self, reading: Reading, extra_faults: tuple[tuple[str, str], ...] = (), client: str = "") -> ScanReport:
        """Judge what was read of this client's mail.

        ``extra_faults`` are findings ``unreadable`` that the reader of it could not know.
        """
        judge = self._judge.of(client)
        return ScanReport(
            verdict=judge.judge(reading.passages, (*extra_faults, *reading.faults), reading.structures),
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


class _Gathered:
    """What the parts of one message give."""

    def __init__(self, extractor: AttachmentReader | None) -> None:
        self._extractor = extractor
        self._budget = extractor.budget() if extractor else None
        self.passages: list[Passage] = []
        self.structures: list[tuple[str, str, bool]] = []
        self.faults: list[tuple[str, str]] = []
        self.attachments: list[Attachment] = []
        self.deferred = False

    def text(self, part: str, text: str) -> None:
        """Keep a text that has anything in it."""
        normal = normalise(text)
        if normal.strip():
            self.passages.append(Passage(part, normal))

    def leaf(self, leaf: Leaf) -> None:
        """Read a part: text on the spot, other formats by the extractor if there is one."""
        kind, reason = self._read(leaf)
        if leaf.fault:
            self.faults.append((leaf.number, leaf.fault))
        if leaf.filename:
            self.text("header:content-disposition", leaf.filename.replace("_", " "))
        if leaf.attached or leaf.filename or kind not in _BODY:
            self.attachments.append(
                Attachment(
                    type=kind if kind not in _UNNAMED else leaf.content_type,
                    name=leaf.filename,
                    size=len(leaf.data),
                    unreadable=reason or leaf.fault,
                )
            )

    def _read(self, leaf: Leaf) -> tuple[str, str]:
        kind = sniff(leaf.data, leaf.content_type, leaf.filename)
        if not leaf.data or is_signature(leaf.data, leaf.content_type):
            return "unknown", ""
        if leaf.content_type in _ENCRYPTED:
            return "unknown", self._fault(leaf, "encrypted")
        if kind in _BODY and not _is_file(leaf):
            self.passages.append(Passage(leaf.number, shown(leaf.data, kind, leaf.content_type, leaf.charset)))
            self._inside(leaf, kind)
            return kind, ""
        if kind in TEXT and (kind != "text" or self._extractor is None):
            found = read_text_format(leaf.data, kind, leaf.content_type, leaf.charset)
            self.text(leaf.number, found.text)
            if found.structure:
                self.structures.append((leaf.number, found.structure, found.patient))
            for reason in found.faults:
                self._fault(leaf, reason)
            return kind, next(iter(found.faults), "")
        if kind == "image" and not is_picture_of_something(leaf.data):
            return kind, ""
        if self._extractor is None or self._budget is None:
            self.deferred = True
            return kind, self._fault(leaf, DEFERRED)
        contents = self._extractor.read(leaf, kind, self._budget)
        for piece in contents.pieces:
            self.text(piece.part, piece.text)
        self.structures += contents.structures
        self.faults += contents.faults
        return contents.type, contents.faults[0][1] if contents.faults else ""

    def _inside(self, leaf: Leaf, kind: str) -> None:
        """What stands in a text and is no text: files, pictures, an encrypted message."""
        if ":" in leaf.number:  # inside another: what is inside that again could go on without end
            if kind == "html" and any(data_files(leaf.data)):
                self._fault(leaf, "depth")
            return
        if kind == "html":
            for number, (label, data) in enumerate(data_files(leaf.data), 1):
                as_type = "text/html" if label == "image/svg+xml" else label
                self.leaf(Leaf(number=f"{leaf.number}:{number}", content_type=as_type, data=data, related=True))
        files = [(decode(name, leaf.charset), data) for name, data in uuencoded(leaf.data)]
        if is_card(leaf.data):
            files += card_files(decode(leaf.data, leaf.charset))
        for number, (name, data) in enumerate(files, 1):
            inner = f"{leaf.number}:{number}"
            self.leaf(Leaf(number=inner, content_type=_BINARY, data=data, filename=name, attached=True))
        if holds_yenc(leaf.data):
            self._fault(leaf, "encoding")
        if holds_pgp_message(leaf.data):
            self._fault(leaf, "encrypted")

    def _fault(self, leaf: Leaf, reason: str) -> str:
        self.faults.append((leaf.number, reason))
        return reason


def _is_file(leaf: Leaf) -> bool:
    """Whether a text is opened as a file, rather than shown as a part of the message."""
    return leaf.attached or leaf.filename.lower().endswith(_MESSAGE_NAMES)
