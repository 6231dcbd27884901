"""Servers that tests write themselves, as far as they are alike."""

import asyncio
import ssl


def presenting(authority, host):
    """What a server needs to present a certificate for this host."""
    certificate = authority.issue(host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    return context


class Listening:
    """Listens on loopback while its block runs; with the block ends what it serves.

    Whoever inherits says how it serves a connection (``_serve``), and by ``_tls`` over what.
    """

    host, port = "127.0.0.1", 0
    _tls = None

    async def __aenter__(self):
        self._tasks = set()
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _accept(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        await self._serve(reader, writer)
