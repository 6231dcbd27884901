"""A small HTTPS client for documents that other domains publish or ask for: verified, bounded, and led nowhere.

Names are looked up by our own resolver, and special-purpose addresses are refused (RFC 6890): a stranger's DNS must not
make us knock inside the hospital's network. Redirects are answers like any other, not followed.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from typing import Final

import h11

from relay.core.ports import ConnectError
from relay.net.mx import HostFinder

_CHUNK: Final = 16_384
_OK: Final = 200
_NOT_DONE: Final = 300


class FetchError(Exception):
    """The document could not be fetched; its text is one clause for operators.

    Attributes:
        kind: ``dns``, ``connect``, ``certificate``, ``tls``, ``http`` or ``timeout``.
    """

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        super().__init__(detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """Bounds of one fetch.

    Attributes:
        port: of the servers; another than 443 only makes sense in tests.
        timeout: seconds for everything, look-up to last octet (RFC 8461 section 3.3 suggests a minute).
        connect: seconds for a connection to one address, its handshake included; half of ``timeout`` at the most. One
            that says nothing, as where IPv6 leads nowhere, leaves time for another.
        max_size: octets of a document.
        addresses: addresses tried of one server.
    """

    port: int = 443
    timeout: float = 60.0
    connect: float = 20.0
    max_size: int = 65_536
    addresses: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """One request."""

    method: str
    host: str
    path: str
    headers: tuple[tuple[str, str], ...]
    media_type: str = ""
    port: int = 0
    body: bytes = field(default=b"", repr=False)


class HttpsFetcher:
    """Fetches documents by GET, and brings others by POST."""

    def __init__(self, finder: HostFinder, context: ssl.SSLContext, options: FetchOptions | None = None) -> None:
        if context.verify_mode is not ssl.CERT_REQUIRED or not context.check_hostname:
            raise ValueError("a document's server must be verified")
        self._finder = finder
        self._context = context
        self._options = options or FetchOptions()

    async def get(self, host: str, path: str, *, media_type: str) -> bytes:
        """The body of a 200 answer of this media type (its parameters do not matter).

        Raises:
            FetchError: anything else came, too much of it, or not in time.
        """
        headers = (("Accept", media_type),)
        return await self._ask(_Request(method="GET", host=host, path=path, headers=headers, media_type=media_type))

    async def post(self, host: str, path: str, body: bytes, *, media_type: str, port: int = 0) -> None:
        """Bring a document; done when the answer is 2xx, whose body does not matter. Port 0 is that of the options.

        Raises:
            FetchError: another answer came, or none in time.
        """
        headers = (("Content-Type", media_type), ("Content-Length", str(len(body))))
        await self._ask(_Request(method="POST", host=host, path=path, headers=headers, body=body, port=port))

    async def _ask(self, request: _Request) -> bytes:
        try:
            async with asyncio.timeout(self._options.timeout):
                return await self._any(request)
        except TimeoutError:
            raise FetchError("timeout", f"{request.host} took too long to answer") from None

    async def _any(self, request: _Request) -> bytes:
        host = request.host
        try:
            found = await self._finder.named(host)
        except ConnectError as error:
            raise FetchError("dns", f"{host} has no address that may be used") from error
        if found.literal:
            raise FetchError("dns", f"{host} is an address, not a name")
        last = FetchError("dns", f"{host} has no address")
        for address in found.addresses[: self._options.addresses]:
            try:
                return await self._from(address, request)
            except FetchError as error:
                if error.kind != "connect":
                    raise
                last = error
        raise last

    async def _from(self, address: str, request: _Request) -> bytes:
        host = request.host
        try:
            async with asyncio.timeout(min(self._options.connect, self._options.timeout / 2)):
                reader, writer = await asyncio.open_connection(
                    address, request.port or self._options.port, ssl=self._context, server_hostname=host, limit=_CHUNK
                )
        except ssl.SSLCertVerificationError as error:
            reason = (error.verify_message or "it does not verify")[:200]
            raise FetchError("certificate", f"the certificate of {host}: {reason}") from None
        except ssl.SSLError as error:
            reason = (error.reason or "protocol error").replace("_", " ").lower()
            raise FetchError("tls", f"the TLS handshake with {host} failed: {reason}") from None
        except TimeoutError:
            raise FetchError("connect", f"connecting to {host} took too long") from None
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise FetchError("connect", f"connecting to {host} failed: {reason}") from None
        try:
            return await self._exchange(reader, writer, request)
        except (OSError, h11.ProtocolError):
            raise FetchError("http", f"{host} did not answer in HTTP") from None
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: _Request) -> bytes:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_CHUNK)
        host = f"{request.host}:{request.port}" if request.port else request.host
        headers = [("Host", host), ("User-Agent", "Postern"), ("Connection", "close"), *request.headers]
        writer.write(http.send(h11.Request(method=request.method, target=request.path, headers=headers)) or b"")
        if request.body:
            writer.write(http.send(h11.Data(data=request.body)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                _check(event, request)
                if not request.media_type:
                    return b""
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._options.max_size:
                    raise FetchError(
                        "http", f"what {request.host} serves is larger than {self._options.max_size} octets"
                    )
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif not isinstance(event, h11.InformationalResponse):
                raise FetchError("http", f"{request.host} closed the connection early")


def _check(response: h11.Response, request: _Request) -> None:
    host, media_type = request.host, request.media_type
    if not media_type:
        if not _OK <= response.status_code < _NOT_DONE:
            raise FetchError("http", f"{host} answered {response.status_code} to what was brought")
        return
    if response.status_code != _OK:
        raise FetchError("http", f"{host} answered {response.status_code}, not 200")
    given = next((value for name, value in response.headers if name == b"content-type"), b"")
    if given.partition(b";")[0].strip().lower() != media_type.encode():
        raise FetchError("http", f"what {host} serves is not {media_type}")
