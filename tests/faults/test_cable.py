"""The cable cuts the connection it is told to, and no other."""

import asyncio

from tests.support.cable import Cable


async def test_an_answer_is_lost_on_its_own_connection_only():
    began = asyncio.Queue()

    async def serve(reader, writer):
        first = await reader.readline()
        await began.put((first, writer))
        await reader.read()
        writer.close()

    async with asyncio.timeout(60), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        async with Cable(server.sockets[0].getsockname()[1]) as cable:
            other_reader, other = await asyncio.open_connection("127.0.0.1", cable.port)
            other.write(b"other\n")
            _, to_other = await began.get()
            cable.cut_at = b"-end\n"
            cut_reader, cut = await asyncio.open_connection("127.0.0.1", cable.port)
            cut.write(b"cut -end\n")
            _, to_cut = await began.get()
            to_other.write(b"first\n")  # the first octets that come back are of the connection that is not cut
            assert await other_reader.readline() == b"first\n"
            to_cut.write(b"lost\n")
            assert await cut_reader.read() == b""
            to_other.write(b"second\n")
            assert await other_reader.readline() == b"second\n"
            other.close()
            cut.close()
        server.close()
