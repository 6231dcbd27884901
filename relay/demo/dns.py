"""A small DNS server on loopback: answers from a table, and misbehaves on request."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Self

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

_CHAIN: Final = 8  # CNAMEs followed in one answer
_SOA: Final = "ns.invalid. hostmaster.invalid. 1 3600 600 86400 60"


class Trouble(Enum):
    """What a name, or one type of it, does instead of answering."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    """Never answers."""
    NXDOMAIN = "nxdomain"


Records = Mapping[str, Sequence[str] | Trouble]
"""Record type to its data in master file form: ``{"MX": ["10 mx.example."], "A": Trouble.SERVFAIL}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question that was asked."""

    name: str
    type: str
    transport: str


class DnsServer:
    """Answers for every name in its zone, ``NXDOMAIN`` for all others, over UDP and TCP on one port.

    It plays a validating recursive resolver: CNAMEs are followed, and answers made of names in ``secure`` alone carry
    the AD bit (RFC 4035 section 3.2.3) when the question asks for it by AD or DO.

    Attributes:
        queries: all questions so far, in order.
        port: known once started.
    """

    def __init__(
        self,
        zone: Mapping[str, Records | Trouble] | None = None,
        *,
        secure: Sequence[str] = (),
        host: str = "127.0.0.1",
        port: int = 0,
        ttl: int = 60,
    ) -> None:
        self.host = host
        self.port = port
        self.queries: list[Query] = []
        self._ttl = ttl
        self._zone: dict[str, dict[str, tuple[str, ...] | Trouble] | Trouble] = {}
        self._secure = {_key(name) for name in secure}
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        for name, records in (zone or {}).items():
            self.set(name, records)

    def set(self, name: str, records: Records | Trouble | None, *, secure: bool | None = None) -> None:
        """Replace what is known of a name, also while running; ``None`` forgets it.

        Args:
            name: with or without the last dot.
            records: its records, or trouble for all its types.
            secure: whether its answers carry AD from now on; ``None`` leaves that as it was.
        """
        key = _key(name)
        if records is None:
            self._zone.pop(key, None)
        elif isinstance(records, Trouble):
            self._zone[key] = records
        else:
            self._zone[key] = {
                kind.upper(): data if isinstance(data, Trouble) else tuple(data) for kind, data in records.items()
            }
        if secure is not None:
            (self._secure.add if secure else self._secure.discard)(key)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for _ in range(32):  # a port that is free over UDP may be taken over TCP
            udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket(type=socket.SOCK_STREAM)
            try:
                udp.bind((self.host, self.port))
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tcp.bind((self.host, udp.getsockname()[1]))
            except OSError:
                udp.close()
                tcp.close()
                if self.port:
                    raise
                continue
            self.port = udp.getsockname()[1]
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), sock=udp)
            self._tcp = await asyncio.start_server(self._stream, sock=tcp)
            return self
        raise OSError(f"no port is free over both UDP and TCP on {self.host}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            self._tcp.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close at the loop's next turn

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  a coroutine always runs in a task
        self._connections.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    answer = self.answer(await reader.readexactly(size), "tcp")
                    if answer is not None:
                        writer.write(len(answer).to_bytes(2, "big") + answer)
                        await writer.drain()
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    def answer(self, question: bytes, transport: str) -> bytes | None:
        """The answer to a question's bytes; ``None`` for what is not DNS and for names that time out."""
        try:
            query = dns.message.from_wire(question)
        except dns.exception.DNSException:
            return None
        if len(query.question) != 1:
            return None
        asked = query.question[0]
        name, kind = asked.name, dns.rdatatype.to_text(asked.rdtype)
        self.queries.append(Query(name=_key(name.to_text()), type=kind, transport=transport))
        response = dns.message.make_response(query, recursion_available=True)
        if self._fill(response, query, name, kind) is Trouble.TIMEOUT:
            return None
        limit = 65535 if transport == "tcp" else max(512, query.payload if query.edns >= 0 else 512)
        try:
            return response.to_wire(max_size=limit)
        except dns.exception.TooBig:
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()

    def _fill(
        self, response: dns.message.Message, query: dns.message.Message, name: dns.name.Name, kind: str
    ) -> Trouble | None:
        secure = True
        for _ in range(_CHAIN):
            secure = secure and _key(name.to_text()) in self._secure
            found = self._look_up(name, kind)
            if isinstance(found, Trouble):
                response.set_rcode(
                    dns.rcode.from_text(found.name) if found is not Trouble.TIMEOUT else response.rcode()
                )
                if found is Trouble.NXDOMAIN:
                    response.authority.append(_rrset(name, self._ttl, "SOA", (_SOA,)))
                break
            actual, data = found
            if not data:
                response.authority.append(_rrset(name, self._ttl, "SOA", (_SOA,)))
                break
            response.answer.append(_rrset(name, self._ttl, actual, data))
            if actual == kind:
                break
            name = dns.name.from_text(data[0])
        if secure and (query.flags & dns.flags.AD or query.ednsflags & dns.flags.DO):
            response.flags |= dns.flags.AD
        return found if isinstance(found, Trouble) else None

    def _look_up(self, name: dns.name.Name, kind: str) -> tuple[str, tuple[str, ...]] | Trouble:
        """The record type that answers and its data: none for a name that has other types, or names below it."""
        key = _key(name.to_text())
        known = self._zone.get(key)
        if isinstance(known, Trouble):
            return known
        if known is None:
            below = any(other.endswith(f".{key}") for other in self._zone)
            return (kind, ()) if below else Trouble.NXDOMAIN
        actual = kind if kind in known else "CNAME" if "CNAME" in known else kind
        data = known.get(actual, ())
        return data if isinstance(data, Trouble) else (actual, data)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # asyncio's stub
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


def _key(name: str) -> str:
    return name.lower().rstrip(".")


def _rrset(name: dns.name.Name, ttl: int, kind: str, data: Sequence[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(name, ttl, dns.rdataclass.IN, kind, list(data))
