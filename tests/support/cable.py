"""A cable between a client and a server that can be cut at a moment of one's choice."""

import asyncio
import contextlib


class Cable:
    """Forwards connections to a port; use as an async context manager.

    Attributes:
        cut_at: octets on their way to the server at whose sight the cable is cut, once.
        deliver: whether these octets still reach the server, and its answer the cable, before the cut.
        stalled: while set, nothing passes in either direction.
        cuts: how often it was cut.
        piece: octets that pass at a time.
    """

    def __init__(self, port):
        self._target = port
        self._open = set()
        self.cut_at = b""
        self.deliver = True
        self.cuts = 0
        self.piece = 65536
        self.stalled = False
        self._flow = asyncio.Event()
        self._flow.set()
        self._refusing = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()
        self._flow.set()
        while self._open:
            await asyncio.wait({task for task, *_ in self._open})

    def cut(self, *, refuse=False):
        """End every connection; ``refuse`` those to come as well."""
        self._refusing = refuse
        for _, ours, theirs in self._open:
            ours.transport.abort()
            theirs.transport.abort()

    def mend(self):
        self._refusing = False

    def stall(self, *, on):
        self._flow.clear() if on else self._flow.set()

    async def _serve(self, reader, writer):
        if self._refusing:
            writer.transport.abort()
            return
        try:
            there, away = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        known = (asyncio.current_task(), writer, away)
        self._open.add(known)
        answered, muted = asyncio.Event(), asyncio.Event()
        back = asyncio.ensure_future(self._back(there, writer, answered, muted))
        try:
            await self._forth(reader, away, answered, muted)
        finally:
            self._open.discard(known)
            writer.transport.abort()
            away.transport.abort()
            await asyncio.gather(back, return_exceptions=True)

    async def _forth(self, reader, away, answered, muted):
        with contextlib.suppress(OSError):
            while piece := await reader.read(self.piece):
                await self._flow.wait()
                if self.cut_at and self.cut_at in piece:
                    self.cut_at = b""
                    self.cuts += 1
                    if self.deliver:
                        answered.clear()
                        muted.set()
                        away.write(piece)
                        await answered.wait()
                    return
                away.write(piece)
                await away.drain()

    async def _back(self, there, writer, answered, muted):
        with contextlib.suppress(OSError):
            while piece := await there.read(self.piece):
                await self._flow.wait()
                answered.set()
                if muted.is_set():  # of this connection: the others' answers still come
                    return
                writer.write(piece)
                await writer.drain()
        answered.set()
        if not muted.is_set():
            writer.close()
