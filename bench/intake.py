"""CPU per message of session machine, connection and a null acceptor: `python bench/intake.py [messages]`.

One process is the server (uvloop), another the client; only the server's CPU time is counted. The clients keep 20
connections, pipeline MAIL, RCPT and DATA, and wait for each reply, as relays do.
"""

import asyncio
import multiprocessing
import socket
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import structlog
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from relay.core.envelope import ClientSession, Envelope
from relay.core.reply import Reply
from relay.intake.clients import Client, ClientDirectory
from relay.intake.listener import Listener
from relay.smtp.server import ServerSession
from relay.smtp.server_events import Mail, MessageComplete, Rcpt
from relay.smtp.server_limits import SessionLimits
from tests.support.intake import HOSTNAME, client, options, rooms

MESSAGE = (b"Subject: result\r\nFrom: ehr@clinic.example\r\n\r\n" + b"x" * 70 + b"\r\n") + (b"y" * 70 + b"\r\n") * 56
GROUP = b"MAIL FROM:<ehr@clinic.example> SIZE=4096\r\nRCPT TO:<pat@mail.example>\r\nDATA\r\n"
SESSIONS = 20


async def take(session: ClientSession, envelope: Envelope, content: bytes, *, client: Client | None = None) -> Reply:  # noqa: ARG001
    return Reply.of(250, "2.0.0", "Ok: queued as 01ARZ3NDEKTSV4RRFFQ6")


def serve(pipe: Connection) -> None:
    """The server's process: says its port, then the CPU seconds between two words of ours."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))

    async def main() -> None:
        listener = Listener(
            options(limits=SessionLimits(hostname=HOSTNAME, max_messages=10**9, max_commands=10**9)),
            rooms(take),
            ClientDirectory([client()]),
        )
        await listener.start()
        pipe.send(listener.port)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, pipe.recv)
        begun = time.process_time()
        pipe.send(None)
        await loop.run_in_executor(None, pipe.recv)
        pipe.send(time.process_time() - begun)
        await listener.drain(1)

    uvloop.run(main())


def blast(port: int, messages: int, *, reconnect: bool) -> None:
    """Send over raw sockets, round robin."""

    def connect() -> socket.socket:
        made = socket.create_connection(("127.0.0.1", port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.recv(4096)
        made.sendall(b"EHLO bench\r\n")
        made.recv(4096)
        return made

    open_ones = [connect() for _ in range(SESSIONS)]
    body = MESSAGE + b".\r\n"
    for _ in range(messages // SESSIONS):
        for step in (GROUP, body):
            for one in open_ones:
                one.sendall(step)
            for one in open_ones:
                data = b""
                while not data.endswith(b"\r\n") or (step is GROUP and b"354" not in data):
                    data += one.recv(4096)
        if reconnect:
            for one in open_ones:
                one.sendall(b"QUIT\r\n")
                one.recv(4096)
                one.close()
            open_ones = [connect() for _ in range(SESSIONS)]


def machine(messages: int) -> float:
    """The machine alone."""
    session = ServerSession(SessionLimits(hostname=HOSTNAME, max_messages=10**9, max_commands=10**9))
    session.greet()
    session.receive(b"EHLO bench\r\n")
    begun = time.process_time()
    for _ in range(messages):
        for data in (GROUP, MESSAGE + b".\r\n"):
            events = session.receive(data)
            while events:
                last = events[-1]
                events = session.reply(None) if isinstance(last, Mail | Rcpt | MessageComplete) else []
            session.take_output()
    return time.process_time() - begun


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    print(f"machine alone: {machine(messages) / messages * 1e6:.0f} µs a message of {len(MESSAGE)} octets")
    for reconnect in (False, True):
        count = messages // (10 if reconnect else 1)
        ours, theirs = multiprocessing.Pipe()
        server = multiprocessing.Process(target=serve, args=(theirs,))
        server.start()
        port = ours.recv()
        ours.send(None)
        ours.recv()
        blast(port, count, reconnect=reconnect)
        ours.send(None)
        spent = ours.recv()
        server.join()
        how = "a new connection each" if reconnect else f"{SESSIONS} connections kept"
        print(f"machine, connection and null acceptor, {how}: {spent / count * 1e6:.0f} µs a message")


if __name__ == "__main__":
    main()
