"""Planted words: each stands for one kind of patients' data, and is looked for wherever nothing of it may be."""

import base64
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

_SYLLABLES = ("za", "qo", "vy", "xu", "ke", "wi", "ju", "po", "ry", "fe")
_SHORTEST = 8  # characters of a base64 middle that is no chance find
_BEGIN = 5  # octets that a form is looked for by: all words begin alike


@dataclass(frozen=True)
class Find:
    """A planted word where none may be."""

    where: str
    kind: str
    form: str
    around: str


class Plants:
    """Words that occur nowhere else, by kind; every message gets words of its own."""

    def __init__(self) -> None:
        self._numbers = itertools.product(_SYLLABLES, repeat=4)
        self.words: dict[str, list[str]] = {}

    def word(self, kind: str) -> str:
        """A new word of letters alone: no scrubbing of numbers, quotations or addresses removes it by chance."""
        word = "plant" + "".join(next(self._numbers))
        self.words.setdefault(kind, []).append(word)
        return word

    def kinds(self, *kinds: str) -> "Wanted":
        """Words of these kinds, ready to be searched for; of all kinds when none is named."""
        return Wanted({word: kind for kind in kinds or self.words for word in self.words[kind]})

    def all_but(self, *kinds: str) -> "Wanted":
        """Words of all other kinds."""
        return self.kinds(*(kind for kind in self.words if kind not in kinds))


class Wanted:
    """Words in every form in which they could lie in a file: as they are, in any case, UTF-16, hex, base64."""

    def __init__(self, words: dict[str, str]) -> None:
        self._plain: dict[bytes, tuple[str, str]] = {}
        self._base64: dict[bytes, tuple[str, str]] = {}
        for word, kind in words.items():
            raw = word.encode()
            forms = {"plain": raw, "utf-16": word.encode("utf-16-le"), "hex": raw.hex().encode()}
            self._plain |= {value: (kind, form) for form, value in forms.items()}
            self._base64 |= dict.fromkeys(_base64_middles(raw), (kind, "base64"))

    def search(self, where: str, content: bytes) -> list[Find]:
        """Every find in some octets."""
        return [*_finds(where, content.lower(), self._plain), *_finds(where, content, self._base64)]

    def search_files(self, *roots: Path) -> tuple[int, list[Find]]:
        """Every find in all files below some directories, names of files included; how many octets were read."""
        octets, found = 0, []
        for path in files(*roots):
            content = path.read_bytes()
            octets += len(content)
            found += self.search(str(path), content) + self.search("a file's name", str(path).encode())
        return octets, found


def _finds(where: str, content: bytes, forms: dict[bytes, tuple[str, str]]) -> Iterator[Find]:
    """Look for the few beginnings that all words share, then for the whole."""
    for begin, size in {(form[:_BEGIN], len(form)) for form in forms}:
        place = content.find(begin)
        while place >= 0:
            if (known := forms.get(content[place : place + size])) is not None:
                around = content[max(0, place - 60) : place + size + 40].decode("utf-8", "replace")
                yield Find(where, *known, around)
            place = content.find(begin, place + 1)


def _base64_middles(raw: bytes) -> Iterator[bytes]:
    """What of the word's base64 does not depend on its neighbours, at each of the three places it can begin at."""
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        middle = encoded[(shift * 4 + 2) // 3 + (shift > 0) : len(encoded) - 4]
        if len(middle) >= _SHORTEST:
            yield middle


def files(*roots: Path) -> Iterator[Path]:
    """Regular files below directories, links not followed; one that goes away meanwhile is passed over."""
    for root in roots:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path


@dataclass(frozen=True)
class Patient:
    """The planted words of one message."""

    body: str
    html: str
    subject: str
    from_name: str
    to_name: str
    file_name: str
    attached: str
    header: str
    sender: str
    recipient: str

    @classmethod
    def of(cls, plants: Plants) -> "Patient":
        return cls(**{name: plants.word(name) for name in cls.__dataclass_fields__})

    def message(self, to_domain: str, *, head: dict[str, str] | None = None, lines: int = 0) -> bytes:
        """A message with a planted word in every place that a person writes to; PHI by any scan."""
        message = EmailMessage()
        message["From"] = f"Dr {self.from_name} <{self.sender}@clinic.example>"
        message["To"] = f'"{self.to_name} Roe" <{self.recipient}@{to_domain}>'
        message["Subject"] = f"Result for {self.subject}"
        message["X-Patient"] = self.header
        message["Comments"] = self.header
        for name, value in (head or {}).items():
            message[name] = value
        filler = "The lift in the main building is being repaired this week.\n" * lines
        message.set_content(
            f"Dear {self.body},\nDOB: 03/04/1961, MRN: 00481516, HbA1c 8.1 %, metformin, type 2 diabetes.\n{filler}"
        )
        message.add_alternative(f"<p>Patient <b>{self.html}</b>, DOB 03/04/1961</p>", subtype="html")
        message.add_attachment(
            f"PID|{self.attached}".encode(), "application", "x-odd", filename=f"{self.file_name}.odd"
        )
        return message.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    def addresses(self, to_domain: str) -> tuple[str, str]:
        """Sender and recipient."""
        return f"{self.sender}@clinic.example", f"{self.recipient}@{to_domain}"


def of_records(records: Iterable[object]) -> bytes:
    """Records as one text to search in."""
    return "\n".join(map(repr, records)).encode("utf-8", "replace")
