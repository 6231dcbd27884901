"""The PROXY protocol's header, versions 1 and 2 (HAProxy, proxy-protocol.txt), read without a socket."""

import ipaddress
import struct
from dataclasses import dataclass
from typing import Final

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_V1: Final = 107  # octets, the line end included (section 2.1)
_MAX_V2: Final = 16 + 1024
_INET: Final = {0x1: (4, ipaddress.IPv4Address), 0x2: (16, ipaddress.IPv6Address)}


class ProxyHeaderError(Exception):
    """What a connection begins with is no PROXY header."""


@dataclass(frozen=True, slots=True)
class Proxied:
    """A header that was read.

    Attributes:
        size: octets of the header: the connection's own begin after it.
        client: whom the proxy serves, address and port; ``None`` when it speaks for itself (health checks).
    """

    size: int
    client: tuple[str, int] | None


def read_header(data: bytes) -> Proxied | None:
    """The header at the beginning of ``data``; ``None`` while more octets are needed.

    Raises:
        ProxyHeaderError: it is none, or longer than one may be.
    """
    if data.startswith(_SIGNATURE[: len(data)]):
        return _version_2(data)
    if data.startswith(b"PROXY "[: len(data)]):
        return _version_1(data)
    raise ProxyHeaderError("a connection does not begin with a PROXY header")


def _version_1(data: bytes) -> Proxied | None:
    line, end, _ = data.partition(b"\r\n")
    if not end:
        if len(data) > _MAX_V1:
            raise ProxyHeaderError("a PROXY line is too long")
        return None
    size = len(line) + 2
    words = line.decode("ascii", "replace").split(" ")
    if size > _MAX_V1 or len(words) < 2:
        raise ProxyHeaderError("a PROXY line is not of version 1")
    if words[1] == "UNKNOWN":
        return Proxied(size, None)
    if len(words) != 6 or words[1] not in {"TCP4", "TCP6"}:
        raise ProxyHeaderError("a PROXY line is not of version 1")
    return Proxied(size, (_address(words[2]), _port(words[4])))


def _version_2(data: bytes) -> Proxied | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], struct.unpack_from("!H", data, 14)[0]
    size = 16 + length
    if command >> 4 != 2 or size > _MAX_V2:
        raise ProxyHeaderError("a PROXY header is not of version 2, or too long")
    if len(data) < size:
        return None
    if command & 0xF == 0 or family >> 4 not in _INET:
        return Proxied(size, None)  # LOCAL, or a family that has no address of the Internet
    octets, kind = _INET[family >> 4]
    if command & 0xF != 1 or length < 2 * octets + 4:
        raise ProxyHeaderError("a PROXY header of version 2 is cut short")
    port = struct.unpack_from("!H", data, 16 + 2 * octets)[0]
    return Proxied(size, (str(kind(data[16 : 16 + octets])), port))


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ProxyHeaderError("a PROXY line names no address") from None


def _port(text: str) -> int:
    if not text.isdigit() or len(text) > 5 or int(text) > 65_535:
        raise ProxyHeaderError("a PROXY line names no port")
    return int(text)
