"""Archives: ZIP (and what is built on it), tar, gzip, bzip2 and xz, unpacked within the budget."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from typing import BinaryIO, Final, cast

from relay.extract.budget import Budget, Extracted, UnreadableError
from relay.extract.formats.office import office_kind, read_office
from relay.mail.charset import decode

_ENCRYPTED_BIT: Final = 0x1
_ERRORS: Final = (
    OSError, EOFError, ValueError, IndexError, NotImplementedError, RuntimeError,
    zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError,
)  # fmt: skip


def read_zip(data: bytes, budget: Budget) -> Extracted:
    """An Office document by its text, another archive by its members as children.

    Raises:
        UnreadableError: ``malformed``, ``encrypted``, ``bomb`` or ``files``.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            kind = office_kind(frozenset(archive.namelist()))
            if kind:
                return read_office(archive, kind, budget)
            return _members(archive, budget)
    except _ERRORS as error:
        raise UnreadableError("malformed") from error


def _members(archive: zipfile.ZipFile, budget: Budget) -> Extracted:
    children: list[tuple[str, bytes]] = []
    faults = set()
    for entry in archive.infolist():
        if entry.is_dir():
            continue
        if len(children) >= budget.limits.files:
            faults.add("files")
            break
        if entry.flag_bits & _ENCRYPTED_BIT:
            faults.add("encrypted")
            children.append((entry.filename, b""))  # its name is not encrypted
            continue
        with archive.open(entry) as stream:
            children.append((entry.filename, budget.read(cast("BinaryIO", stream))))
    remark = decode(archive.comment, "")
    return Extracted(type="zip", text=remark, children=tuple(children), faults=tuple(sorted(faults)))


def read_tar(data: bytes, budget: Budget) -> Extracted:
    """The regular files of a tar archive as children.

    Raises:
        UnreadableError: ``malformed``, ``bomb`` or ``files``.
    """
    children: list[tuple[str, bytes]] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for entry in archive:
                stream = archive.extractfile(entry) if entry.isfile() else None
                if stream is None:
                    continue
                if len(children) >= budget.limits.files:
                    raise UnreadableError("files")
                children.append((entry.name, budget.read(cast("BinaryIO", stream))))
    except _ERRORS as error:
        raise UnreadableError("malformed") from error
    return Extracted(type="tar", children=tuple(children))


def read_compressed(data: bytes, kind: str, budget: Budget) -> Extracted:
    """The one file inside gzip, bzip2 or xz.

    Raises:
        UnreadableError: ``malformed`` or ``bomb``.
    """
    try:
        with _opened(io.BytesIO(data), kind) as stream:
            content = budget.read(cast("BinaryIO", stream))
    except _ERRORS as error:
        raise UnreadableError("malformed") from error
    return Extracted(type=kind, children=(("", content),))


def _opened(source: io.BytesIO, kind: str) -> gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=source)
    return bz2.BZ2File(source) if kind == "bzip2" else lzma.LZMAFile(source)
