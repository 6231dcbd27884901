"""Clients that mean harm, each without end until it is cancelled; every one is bounded in what it holds and sends.

An attacker is an asynchronous function of a :class:`Target`; it calls ``target.struck()`` each time it did its harm. It
runs in a process of its own: ``python -m tests.abuse.attackers NAME RELAY_PORT SUBMISSION_PORT ROOT``.
"""

import asyncio
import base64
import contextlib
import functools
import itertools
import resource
import ssl
import sys
from dataclasses import dataclass

_REST = 0.001  # seconds between two strikes of one attacker: it must not take the processor from who is attacked


@dataclass
class Target:
    """Whom to attack.

    Attributes:
        relay: (host, port) in the clear.
        submission: (host, port) with STARTTLS and AUTH.
        root: PEM of the authority that vouches for the relay's certificate.
    """

    relay: tuple[str, int]
    submission: tuple[str, int]
    root: str

    @functools.cached_property
    def tls(self):
        return ssl.create_default_context(cafile=self.root)

    def struck(self, answer=b""):
        """Tell who started this process of each harm that was done, with the code of the last answer to it."""
        print(answer[:3].decode("ascii", "replace") or "---", flush=True)


class Wire:
    """One connection of an attacker. Use as an async context manager; a relay that hangs up ends nothing."""

    def __init__(self, address, source=0):
        self._address, self._source = address, source

    async def __aenter__(self):
        local = (f"127.0.{1 + self._source // 200}.{1 + self._source % 200}", 0) if self._source else None
        self.reader, self.writer = await asyncio.open_connection(*self._address, local_addr=local, limit=1 << 20)
        self.greeting = await self.reply()
        return self

    async def __aexit__(self, *_):
        self.writer.transport.abort()

    async def reply(self):
        """The next reply's last line; empty at the end."""
        line = b"   -"
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line[3:4] == b"-":
                line = await self.reader.readuntil(b"\n")
            return line
        return b""

    async def send(self, data):
        """Send, as fast as the relay reads."""
        self.writer.write(data)
        await self.writer.drain()

    async def say(self, *lines):
        """Commands one after the other; the last reply."""
        answer = b""
        for line in lines:
            await self.send(line + b"\r\n")
            answer = await self.reply()
        return answer

    async def data(self, content):
        """A message of whatever octets; the reply to its end."""
        answer = await self.say(
            b"EHLO bad.example", b"MAIL FROM:<ehr@clinic.example>", b"RCPT TO:<a@mail.example>", b"DATA"
        )
        if not answer.startswith(b"354"):
            return answer
        await self.send(content + b"\r\n.\r\n")
        return await self.reply()


async def _again_and_again(target, strike, together=4):
    """Strike from several tasks, one connection after the other."""

    async def one(number):
        for turn in itertools.count():
            with contextlib.suppress(OSError):
                target.struck(await strike(number, turn))
            await asyncio.sleep(_REST)

    async with asyncio.TaskGroup() as group:
        for number in range(together):
            group.create_task(one(number))


# --- connections --------------------------------------------------------------


async def slow_senders(target, count=200):
    """A command, then a message, an octet a second each."""

    async def one(number):
        with contextlib.suppress(OSError):
            async with Wire(target.relay, 1 + number) as wire:
                target.struck(wire.greeting)
                await wire.say(
                    b"EHLO slow.example", b"MAIL FROM:<ehr@clinic.example>", b"RCPT TO:<a@mail.example>", b"DATA"
                )
                for octet in itertools.cycle(b"slow text\r\n" if number % 2 else b"x"):
                    await wire.send(bytes([octet]))
                    await asyncio.sleep(1)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def many_connections(target, count=5000):
    """Open connections that say nothing more than EHLO."""
    gate = asyncio.Semaphore(100)

    async def one(number):
        with contextlib.suppress(OSError):
            async with gate:
                wire = await Wire(target.relay, 1 + number % 150).__aenter__()
            try:
                await wire.say(b"EHLO many.example")
                target.struck(wire.greeting)
                await asyncio.Event().wait()
            finally:
                wire.writer.transport.abort()

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(one(number))


async def connecting(target):
    """Connect and reset, over and over."""

    async def strike(_number, _turn):
        async with Wire(target.relay) as wire:
            return wire.greeting

    await _again_and_again(target, strike)


async def handshakes(target):
    """STARTTLS, and away in the middle of the handshake."""

    async def strike(_number, _turn):
        async with Wire(target.submission) as wire:
            answer = await wire.say(b"EHLO bad.example", b"STARTTLS")
            await wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200)
            return answer

    await _again_and_again(target, strike)


# --- commands -----------------------------------------------------------------


async def command_flood(target):
    """As many commands as the relay will read, without waiting for an answer."""

    async def strike(_number, _turn):
        async with Wire(target.relay) as wire:
            await wire.send(b"EHLO bad.example\r\n" + b"NOOP\r\n" * 10_000)
            answer = last = await wire.reply()
            while last:
                answer, last = last, await wire.reply()
            return answer

    await _again_and_again(target, strike)


async def garbage(target):
    """NULs, bad UTF-8, stray CRs and lines without an end."""
    kinds = (
        b"\0" * 500 + b"\r\n",
        b"\xff\xfe\xc3\x28\r\n" * 50,
        b"NOOP\r\r\r\n" * 50,
        b"x" * 100_000,
        b"GET / HTTP/1.1\r\n\r\n",
    )

    async def strike(_number, turn):
        async with Wire(target.relay) as wire:
            await wire.send(kinds[turn % len(kinds)])
            wire.writer.write_eof()
            answer = b""
            while line := await wire.reply():
                answer = line
            return answer

    await _again_and_again(target, strike)


async def recipients_by_the_thousand(target):
    """All of them refused or taken, then RSET, and again."""

    async def strike(_number, _turn):
        async with Wire(target.relay) as wire:
            await wire.say(b"EHLO bad.example", b"MAIL FROM:<ehr@clinic.example>")
            await wire.send(b"".join(b"RCPT TO:<box%d@mail.example>\r\n" % number for number in range(3000)))
            answer = b""
            for _ in range(3000):
                answer = await wire.reply()
                if not answer or answer.startswith(b"421"):
                    break
            return answer

    await _again_and_again(target, strike)


async def password_guessing(target):
    """AUTH PLAIN inside TLS with one guess after the other."""

    async def strike(number, turn):
        async with Wire(target.submission, 1 + number) as wire:
            await wire.say(b"EHLO bad.example", b"STARTTLS")
            await wire.writer.start_tls(target.tls, server_hostname="relay.clinic.example")
            guess = base64.b64encode(b"\0ehr\0guess%d" % turn)
            return await wire.say(b"EHLO bad.example", b"AUTH PLAIN " + guess)

    await _again_and_again(target, strike)


async def starttls_injection(target):
    """Commands in the clear behind STARTTLS, in one packet: none of them may be answered inside TLS."""

    async def strike(_number, _turn):
        async with Wire(target.submission) as wire:
            await wire.say(b"EHLO bad.example")
            await wire.send(b"STARTTLS\r\nMAIL FROM:<ehr@clinic.example>\r\nRCPT TO:<a@mail.example>\r\n")
            answer = await wire.reply()
            if answer.startswith(b"220"):  # then what came with it must be forgotten
                await wire.writer.start_tls(target.tls, server_hostname="relay.clinic.example")
                answer = await wire.say(b"NOOP")
                assert answer.startswith(b"250"), answer
            return answer

    await _again_and_again(target, strike)


# --- messages -----------------------------------------------------------------

HEAD = b"From: ehr@clinic.example\r\nTo: a@mail.example\r\nSubject: Notice\r\n"


def _messages(*contents):
    async def attack(target):
        async def strike(_number, turn):
            async with Wire(target.relay) as wire:
                return await wire.data(contents[turn % len(contents)])

        await _again_and_again(target, strike, together=2)

    return attack


endless_headers = _messages(
    HEAD + b"".join(b"X-Field-%d: %s\r\n" % (number, b"v" * 60) for number in range(20_000)) + b"\r\ntext",
    HEAD + b"X-Long: " + b"folded\r\n " * 40_000 + b"end\r\n\r\ntext",
)
many_parts = _messages(
    HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\npart\r\n" * 100_000 + b"--b--\r\n"
)
deep_nesting = _messages(
    HEAD
    + b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (depth, depth) for depth in range(10_000)
    ),
    HEAD + b"Content-Type: message/rfc822\r\n\r\n" * 10_000,
)
huge_lines = _messages(
    HEAD + b"\r\n" + b"x" * 3_000_000, HEAD + b"\r\n" + b"<" * 900 + b"\r\n" + (b"(" * 990 + b"\r\n") * 300
)
odd_octets = _messages(
    HEAD + b"\r\n" + b"\xff\xfe\xc3\x28 " * 200,
    HEAD + b"Subject: =?utf-8?b?" + b"/" * 5000 + b"?=\r\n\r\ntext",
    HEAD + b"\r\nnul \0 here",
    HEAD + b"\r\nbare \n newline",
    HEAD + b"Content-Type: text/html; charset=utf-7\r\n\r\n" + b"&#" * 20_000,
)
smuggling = _messages(
    *(
        HEAD
        + b"\r\ntext"
        + end
        + b"MAIL FROM:<ehr@clinic.example>\r\nRCPT TO:<smuggled@mail.example>\r\nDATA\r\nsmuggled"
        for end in (
            b"\n.\n",
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r\n.\r",
            b"\r.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\n.\r\r\n",
        )
    )
)
numbers = _messages(HEAD + b"\r\n" + b"123-45-6789 diabetes 1/2/1980 A1B2C3 " * 25_000)
"""As much for the scan to find as fits."""

ATTACKS = {
    "slow senders": slow_senders,
    "5,000 connections": many_connections,
    "connecting": connecting,
    "broken handshakes": handshakes,
    "a flood of commands": command_flood,
    "garbage": garbage,
    "recipients by the thousand": recipients_by_the_thousand,
    "password guessing": password_guessing,
    "STARTTLS injection": starttls_injection,
    "endless headers": endless_headers,
    "100,000 parts": many_parts,
    "deep nesting": deep_nesting,
    "huge lines": huge_lines,
    "odd octets": odd_octets,
    "smuggling": smuggling,
    "numbers without end": numbers,
}

UNDER_WAY = {"slow senders": 200, "5,000 connections": 5000}
"""Strikes after which the harm is at its worst; of most a few."""


def main(name, relay_port, submission_port, root):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    target = Target(("127.0.0.1", int(relay_port)), ("127.0.0.1", int(submission_port)), root)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(ATTACKS[name](target))


if __name__ == "__main__":
    main(*sys.argv[1:])
