"""Secrets that people choose: judged by length and by lists of stolen ones, kept as argon2id hashes.

Length counts, composition does not (NIST SP 800-63B section 3.1.1.2). The same hashing serves a secret that a sender or
clinic sets for specially protected messages: :func:`shared_hash` is what ``postern portal secret`` calls.
"""

import asyncio
import functools
import hashlib
import itertools
import os
import re
import unicodedata
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Final

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from relay.portal.options import PassphraseOptions

SHARED_LEAST: Final = 6
"""Characters of a shared secret: short enough for the phone, for its tries are few."""
_LONGEST_WRITTEN: Final = 4096  # characters as typed: at the most four become one (a Greek letter and its marks)
_MAX_LINE: Final = 128
_SHA1_LENGTH: Final = 40
_SHA1_HEX: Final = re.compile(rb"[0-9A-F]{40}(?::|\Z)")
_CONTEXT_LEAST: Final = 4
_LETTERS: Final = str.maketrans("013457@$", "oieastas")
_LEET: Final = re.compile(r"(?<=[^\W\d_])[013457@$]+(?=[^\W\d_])")
"""Digits and signs that people put in the place of letters: those between letters."""


class Passphrases:
    """Hashes, verifies and judges. At most ``at_once`` hashes are computed at a time, each in a thread."""

    def __init__(self, options: PassphraseOptions) -> None:
        """Take the parameters.

        Args:
            options: lengths, cost, and the list of stolen passphrases.
        """
        self._options = options
        self._hasher = PasswordHasher(
            time_cost=options.time_cost, memory_cost=options.memory_kib, parallelism=options.lanes, type=Type.ID
        )
        self._turns = asyncio.Semaphore(options.at_once)
        self._nobodys = self._hasher.hash("a passphrase that nobody has")

    @property
    def least(self) -> int:
        """Characters that a passphrase needs."""
        return self._options.least

    @property
    def most(self) -> int:
        """Characters that a passphrase may have."""
        return self._options.most

    async def judge(self, secret: str, *, context: tuple[str, ...] = ()) -> str:
        """What is wrong with a passphrase: the key of the words, or empty.

        Args:
            secret: as typed.
            context: words that it must not rest on, such as the mailbox and the name of the clinic.
        """
        folded = fold(secret)
        if len(folded) < self._options.least:
            return "passphrase.too_short"
        if len(folded) > self._options.most:
            return "passphrase.too_long"
        if _is_trivial(folded, context):
            return "passphrase.breached"
        if self._options.breached is not None:
            async with self._turns:
                if await asyncio.to_thread(is_listed, self._options.breached, folded):
                    return "passphrase.breached"
        return ""

    async def hash(self, secret: str) -> str:
        """The argon2id hash of what was typed, in PHC form."""
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, fold(secret))

    async def verify(self, hashed: str, secret: str) -> bool:
        """Whether it fits. Where there is no hash the answer is no, after the same work."""
        folded = fold(secret)
        if len(folded) > self._options.most:
            folded = ""
        async with self._turns:
            fits = await asyncio.to_thread(self._verify, hashed or self._nobodys, folded)
        return fits and bool(hashed)

    def _verify(self, hashed: str, secret: str) -> bool:
        try:
            return self._hasher.verify(hashed, secret)
        except (VerificationError, InvalidHashError):
            return False

    def is_outdated(self, hashed: str) -> bool:
        """Whether it was made with other parameters than today's, and is to be made anew."""
        return self._hasher.check_needs_rehash(hashed)


def fold(secret: str) -> str:
    """One form for what keyboards write in several: NFKC, without space around it (RFC 8265 section 4.2).

    What is longer than any passphrase may be is cut: normalising takes the square of the marks that stand in a row.
    """
    return unicodedata.normalize("NFKC", secret.strip()[:_LONGEST_WRITTEN]).strip()


def shared_hash(secret: str, options: PassphraseOptions | None = None) -> str:
    """The hash of a secret that a sender or clinic sets; blocks for some 50 ms.

    Letters' case and spaces do not count: such secrets are told by phone.

    Raises:
        ValueError: shorter than :data:`SHARED_LEAST` or longer than a passphrase may be.
    """
    options = options or PassphraseOptions()
    folded = fold_shared(secret)
    if not SHARED_LEAST <= len(folded) <= options.most:
        raise ValueError(f"a shared secret has {SHARED_LEAST} to {options.most} characters, spaces not counted")
    hasher = PasswordHasher(
        time_cost=options.time_cost, memory_cost=options.memory_kib, parallelism=options.lanes, type=Type.ID
    )
    return hasher.hash(folded)


def fold_shared(secret: str) -> str:
    """A shared secret as it is hashed."""
    return unicodedata.normalize("NFKC", "".join(fold(secret).casefold().split()))


def is_listed(path: Path, secret: str) -> bool:
    """Whether a sorted file of SHA-1 hashes lists it, by binary search: a file of any size costs some 40 reads.

    A list that cannot be read lists nothing: it is a help, not a lock; start-up proves that it can be.
    """
    wanted = hashlib.sha1(secret.encode("utf-8", "surrogatepass")).hexdigest().upper().encode()  # noqa: S324  the format of such lists
    try:
        with path.open("rb") as file:
            low, high = 0, file.seek(0, os.SEEK_END)
            while low < high:  # the line sought, if it is there, begins at low or later, and before high
                middle = (low + high) // 2
                start, line = _line_from(file, middle)
                if start >= high or line[:_SHA1_LENGTH] > wanted:
                    high = middle
                elif line[:_SHA1_LENGTH] < wanted:
                    low = start + len(line)
                else:
                    return True
            return False
    except OSError:
        return False


def _line_from(file: BinaryIO, place: int) -> tuple[int, bytes]:
    """The first line that begins at this place or later: where it begins, and the line with its end."""
    file.seek(max(place - 1, 0))
    if place:
        file.readline()
    return file.tell(), file.readline()


def check_list(path: Path) -> str:
    """What is wrong with a list of stolen passphrases; empty when it can be used."""
    try:
        with path.open("rb") as file:
            before = b""
            for _ in range(1000):
                line = file.readline(_MAX_LINE).strip()
                if not line:
                    break
                if not _SHA1_HEX.match(line):
                    return "its lines are not SHA-1 hashes in upper-case hex"
                if line[:_SHA1_LENGTH] < before:
                    return "it is not sorted"
                before = line[:_SHA1_LENGTH]
    except OSError as error:
        return error.strerror or str(error)
    return "" if before else "it is empty"


def _is_trivial(secret: str, context: tuple[str, ...]) -> bool:
    """Repeats, runs, the most used words, and what is left once the words that stand around it are taken away."""
    lowered = secret.casefold()
    if len(set(lowered)) < 5 or _is_run(lowered) or _is_common(lowered):
        return True
    for word in context:
        if len(word) >= _CONTEXT_LEAST:
            lowered = lowered.replace(word.casefold(), "")
    return len(lowered) < _CONTEXT_LEAST


def _is_common(text: str) -> bool:
    """Whether it is nothing but the words of ``common.txt``, with digits and signs around and between them."""
    for letters in (text, _LEET.sub(lambda found: found.group().translate(_LETTERS), text)):
        parts = re.findall(r"[^\W\d_]+", letters)
        if parts and all(_is_made_of(part, _common_words()) for part in parts):
            return True
    return False


def _is_made_of(part: str, words: frozenset[str]) -> bool:
    """Whether it is a row of these words; each place is looked at once, however many rows there are."""
    longest = max(map(len, words))
    ends = {0}
    for end in range(1, len(part) + 1):
        if any(start in ends and part[start:end] in words for start in range(max(0, end - longest), end)):
            ends.add(end)
    return len(part) in ends


@functools.cache
def _common_words() -> frozenset[str]:
    lines = resources.files("relay.portal").joinpath("common.txt").read_text("utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def _is_run(text: str) -> bool:
    steps = {ord(right) - ord(left) for left, right in itertools.pairwise(text)}
    if steps <= {1, -9} or steps <= {-1, 9}:  # 123456789012, abcdefghijkl, and backwards
        return True
    return any(len(text) % size == 0 and text == text[:size] * (len(text) // size) for size in range(1, 5))
