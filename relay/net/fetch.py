"""A small HTTPS client for documents that other domains publish: verified, bounded, and led nowhere.

Names are looked up by our own resolver, and special-purpose addresses are refused (RFC 6890): a stranger's DNS must not
make us knock inside the hospital's network. Redirects are answers like any other, not followed.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from typing import Final

import h11

from relay.core.ports import ConnectError
from relay.net.mx import HostFinder

_CHUNK: Final = 16_384
_OK: Final = 200


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
        max_size: octets of a document.
        addresses: addresses tried of one server.
    """

    port: int = 443
    timeout: float = 60.0
    max_size: int = 65_536
    addresses: int = 2


class HttpsFetcher:
    """Fetches documents by GET."""

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
        try:
            async with asyncio.timeout(self._options.timeout):
                return await self._get(host, path, media_type)
        except TimeoutError:
            raise FetchError("timeout", f"{host} took too long to answer") from None

    async def _get(self, host: str, path: str, media_type: str) -> bytes:
        try:
            found = await self._finder.named(host)
        except ConnectError as error:
            raise FetchError("dns", f"{host} has no address that may be used") from error
        if found.literal:
            raise FetchError("dns", f"{host} is an address, not a name")
        last = FetchError("dns", f"{host} has no address")
        for address in found.addresses[: self._options.addresses]:
            try:
                return await self._from(address, host, path, media_type)
            except FetchError as error:
                if error.kind != "connect":
                    raise
                last = error
        raise last

    async def _from(self, address: str, host: str, path: str, media_type: str) -> bytes:
        try:
            reader, writer = await asyncio.open_connection(
                address, self._options.port, ssl=self._context, server_hostname=host, limit=_CHUNK
            )
        except ssl.SSLCertVerificationError as error:
            reason = (error.verify_message or "it does not verify")[:200]
            raise FetchError("certificate", f"the certificate of {host}: {reason}") from None
        except ssl.SSLError as error:
            reason = (error.reason or "protocol error").replace("_", " ").lower()
            raise FetchError("tls", f"the TLS handshake with {host} failed: {reason}") from None
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise FetchError("connect", f"connecting to {host} failed: {reason}") from None
        try:
            return await self._exchange(reader, writer, host, path, media_type)
        except (OSError, h11.ProtocolError):
            raise FetchError("http", f"{host} did not answer in HTTP") from None
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, media_type: str
    ) -> bytes:
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_CHUNK)
        headers = [("Host", host), ("User-Agent", "Postern"), ("Accept", media_type), ("Connection", "close")]
        writer.write(http.send(h11.Request(method="GET", target=path, headers=headers)) or b"")
        writer.write(http.send(h11.EndOfMessage()) or b"")
        await writer.drain()
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Response):
                _check(event, host, media_type)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._options.max_size:
                    raise FetchError("http", f"what {host} serves is larger than {self._options.max_size} octets")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif not isinstance(event, h11.InformationalResponse):
                raise FetchError("http", f"{host} closed the connection early")


def _check(response: h11.Response, host: str, media_type: str) -> None:
    if response.status_code != _OK:
        raise FetchError("http", f"{host} answered {response.status_code}, not 200")
    given = next((value for name, value in response.headers if name == b"content-type"), b"")
    if given.partition(b";")[0].strip().lower() != media_type.encode():
        raise FetchError("http", f"what {host} serves is not {media_type}")
