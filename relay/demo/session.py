"""One connection of a scriptable SMTP server."""

import asyncio
import base64
import binascii
import functools
import ssl
import time
import warnings
from pathlib import Path
from typing import Final, NoReturn

from relay.demo.authority import Certificate
from relay.demo.behaviour import Greylist, PeerBehaviour, ReceivedMessage, StartTls


class Record:
    """What a peer remembers.

    Attributes:
        messages: those taken (a positive final reply), in order.
        refused: those refused at the final dot.
        transcript: every piece that came in the clear, message bodies included: what an eavesdropper has.
        commands: every command line, in the clear or not.
        connections: how many came so far.
        handshake_failures: why TLS failed, one text a failure.
    """

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []
        self.refused: list[ReceivedMessage] = []
        self.transcript: list[bytes] = []
        self.commands: list[str] = []
        self.handshake_failures: list[str] = []
        self.connections = 0
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        self.changed = asyncio.Condition()

    @property
    def clear(self) -> bytes:
        """All that came in the clear, in one piece."""
        return b"".join(self.transcript)

    async def announce(self) -> None:
        """Wake those who wait for something to be recorded."""
        async with self.changed:
            self.changed.notify_all()

    def admit(self, greylist: Greylist, sender: str, recipient: str) -> bool:
        """Whether greylisting lets this pair pass now; counts the attempt."""
        now = time.monotonic()
        tries, first = self._seen.get((sender, recipient), (0, now))
        self._seen[sender, recipient] = (tries + 1, first)
        return tries >= greylist.attempts and now - first >= greylist.seconds


class Ended(Exception):  # noqa: N818  an end, not an error
    """The connection is over."""


class Session:
    """One connection of a peer."""

    def __init__(
        self,
        peer: Record,
        behaviour: PeerBehaviour,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.peer = peer
        self.behaviour = behaviour
        self.number = number
        self.reader = reader
        self.writer = writer
        self.abrupt = False
        self.buffer = bytearray()
        self.tls_version = ""
        self.helo = ""
        self.identity = ""
        self.reset()

    def reset(self) -> None:
        """Forget the transaction."""
        self.sender: str | None = None
        self.parameters: tuple[str, ...] = ()
        self.recipients: dict[str, tuple[str, ...]] = {}

    async def run(self) -> None:
        """Speak until the connection ends."""
        if self.behaviour.implicit_tls:
            await self.start_tls()
        await self.reply(self.behaviour.banner or f"220 {self.behaviour.hostname} ESMTP", "banner")
        if self.behaviour.banner and not self.behaviour.banner.startswith("2"):
            raise Ended
        while True:
            line = (await self.line()).decode("utf-8", "replace").rstrip("\r\n")
            self.peer.commands.append(line)
            verb, _, rest = line.partition(" ")
            handler = _HANDLERS.get(verb.upper())
            if handler is None:
                await self.reply("500 5.5.2 Unknown command")
            else:
                await handler(self, rest.strip())

    # --- the wire -----------------------------------------------------

    async def reply(self, text: str, stage: str = "") -> None:
        """Send a reply, unless the behaviour has other plans for this stage."""
        if self.behaviour.delay:
            await asyncio.sleep(self.behaviour.delay)
        if stage and stage == self.behaviour.drop_at:
            self.abrupt = True
            raise Ended
        if stage and stage == self.behaviour.stall_at:
            await self.stall()
        self.writer.write(render(text))
        await self.writer.drain()

    async def stall(self) -> NoReturn:
        """Take what comes and say nothing, until the client leaves."""
        while True:
            await self.fill()
            self.buffer.clear()

    async def fill(self) -> None:
        """Read more, or end."""
        chunk = await self.reader.read(65536)
        if not chunk:
            raise Ended
        if not self.tls_version:
            self.peer.transcript.append(chunk)
        self.buffer += chunk

    async def line(self) -> bytes:
        """One line with its end."""
        while (end := self.buffer.find(b"\n")) < 0:
            await self.fill()
        line = bytes(self.buffer[: end + 1])
        del self.buffer[: end + 1]
        return line

    async def body(self) -> bytes:
        """All up to CRLF.CRLF and nothing else (RFC 5321 section 4.1.1.4), dot-stuffing undone."""
        received = bytearray(b"\r\n")
        start = 0
        while True:
            received += self.buffer
            self.buffer.clear()
            if self.behaviour.drop_at == "body" and len(received) > 2:
                self.abrupt = True
                raise Ended
            end = received.find(b"\r\n.\r\n", start)
            if end >= 0:
                break
            start = max(0, len(received) - 4)
            await self.fill()
        self.buffer += received[end + 5 :]
        return bytes(received[: end + 2].replace(b"\r\n..", b"\r\n.")[2:])

    async def start_tls(self) -> None:
        """Shake hands; a failure ends the connection and is remembered."""
        assert self.behaviour.certificate is not None  # noqa: S101  not offered without one
        context = server_context(
            self.behaviour.certificate,
            self.behaviour.minimum_tls,
            self.behaviour.maximum_tls,
            self.behaviour.client_root,
        )
        try:
            await self.writer.start_tls(context, ssl_handshake_timeout=20.0)
        except (OSError, ssl.SSLError) as error:
            self.peer.handshake_failures.append(str(error))
            await self.peer.announce()
            self.abrupt = True
            raise Ended from error
        self.tls_version = self.writer.get_extra_info("ssl_object").version()

    # --- commands -----------------------------------------------------

    async def on_ehlo(self, name: str) -> None:
        """EHLO: what is on offer."""
        if self.behaviour.ehlo:
            await self.reply(self.behaviour.ehlo, "ehlo")
            return
        self.helo = name
        self.reset()
        offers = list(self.behaviour.keywords)
        can_start = self.behaviour.certificate is not None or self.behaviour.starttls is not StartTls.OFFERED
        if can_start and self.behaviour.starttls is not StartTls.ABSENT and not self.tls_version:
            offers.append("STARTTLS")
        if self.behaviour.credentials and (self.tls_version or self.behaviour.auth_in_clear):
            offers.append("AUTH PLAIN LOGIN")
        lines = [self.behaviour.hostname, *offers]
        await self.reply("\n".join(f"250 {line}" for line in lines), "ehlo")

    async def on_helo(self, name: str) -> None:
        """HELO."""
        self.helo = name
        self.reset()
        await self.reply(f"250 {self.behaviour.hostname}", "ehlo")

    async def on_starttls(self, _rest: str) -> None:
        """STARTTLS (RFC 3207)."""
        how = self.behaviour.starttls
        if how is StartTls.REFUSED:
            await self.reply("454 4.7.0 TLS not available due to temporary reason", "starttls")
            return
        if how is StartTls.ABSENT or self.tls_version or (how is StartTls.OFFERED and not self.behaviour.certificate):
            await self.reply("502 5.5.1 STARTTLS not available", "starttls")
            return
        extra = "\n250 2.1.0 Injected\n250 2.1.5 Injected" if how is StartTls.INJECTS else ""
        await self.reply(f"220 2.0.0 Ready to start TLS{extra}", "starttls")
        if how is StartTls.CLOSES:
            raise Ended
        if how is StartTls.STALLS:
            await self.stall()
        if how is StartTls.BROKEN:
            await self.fill()  # the ClientHello; bytes sent before it would count as injected
            self.writer.write(b"this is not a TLS record\r\n" * 4)
            await self.writer.drain()
            await self.stall()
        if how is StartTls.INJECTS and self.behaviour.certificate is None:
            raise Ended
        self.buffer.clear()  # what came in the clear before the handshake counts for nothing
        await self.start_tls()
        self.reset()

    async def on_auth(self, rest: str) -> None:
        """AUTH PLAIN and LOGIN (RFC 4954)."""
        mechanism, _, initial = rest.partition(" ")
        if not self.behaviour.credentials or not (self.tls_version or self.behaviour.auth_in_clear):
            await self.reply("503 5.5.1 AUTH not available", "auth")
            return
        if mechanism.upper() == "PLAIN":
            parts = _decode(initial or await self.ask("")).split("\0")
            user, password = (parts[1], parts[2]) if len(parts) == 3 else ("", "")
        else:
            user = _decode(initial or await self.ask("VXNlcm5hbWU6"))
            password = _decode(await self.ask("UGFzc3dvcmQ6"))
        if user and self.behaviour.credentials.get(user) == password:
            self.identity = user
            await self.reply("235 2.7.0 Authentication successful", "auth")
        else:
            await self.reply("535 5.7.8 Authentication credentials invalid", "auth")

    async def ask(self, challenge: str) -> str:
        """One 334 and its answer."""
        await self.reply(f"334 {challenge}")
        return (await self.line()).decode("ascii", "replace").strip()

    async def on_mail(self, rest: str) -> None:
        """MAIL FROM."""
        path, parameters = _path(rest)
        if path is None or self.sender is not None:
            await self.reply("503 5.5.1 Bad MAIL", "mail")
            return
        if self.behaviour.mail.startswith("2"):
            self.sender, self.parameters = path, tuple(parameter.upper() for parameter in parameters)
        await self.reply(self.behaviour.mail, "mail")

    async def on_rcpt(self, rest: str) -> None:
        """RCPT TO."""
        path, parameters = _path(rest)
        if not path or self.sender is None:
            await self.reply("503 5.5.1 Bad RCPT", "rcpt")
            return
        answers = self.behaviour.recipients
        text = answers(path) if callable(answers) else answers.get(path)
        if text is None and self.behaviour.greylist is not None:
            admitted = self.peer.admit(self.behaviour.greylist, self.sender, path)
            text = None if admitted else self.behaviour.greylist.reply
        text = text or "250 2.1.5 Ok"
        if text.startswith("2"):
            self.recipients[path] = parameters
        await self.reply(text, "rcpt")

    async def on_data(self, _rest: str) -> None:
        """DATA, the body and the final reply."""
        if self.sender is None or not self.recipients:
            await self.reply("503 5.5.1 No valid recipients" if self.sender is not None else "503 5.5.1 MAIL first")
            return
        await self.reply(self.behaviour.data, "data")
        if not self.behaviour.data.startswith("3"):
            return
        content = await self.body()
        message = self.received(content, "")
        final = self.behaviour.final
        text = final(message) if callable(final) else final
        if self.behaviour.drop_at != "final":
            taken = self.peer.messages if text.startswith("2") else self.peer.refused
            taken.append(self.received(content, text))
            await self.peer.announce()
        self.reset()
        await self.reply(text, "final")

    def received(self, content: bytes, reply: str) -> ReceivedMessage:
        """The transaction as a record."""
        return ReceivedMessage(
            sender=self.sender or "",
            recipients=tuple(self.recipients),
            content=content,
            parameters=self.parameters,
            recipient_parameters=dict(self.recipients),
            tls_version=self.tls_version,
            helo=self.helo,
            identity=self.identity,
            connection=self.number,
            reply=reply,
            at=time.time(),
        )

    async def on_rset(self, _rest: str) -> None:
        """RSET."""
        self.reset()
        await self.reply("250 2.0.0 Ok")

    async def on_noop(self, _rest: str) -> None:
        """NOOP and VRFY."""
        await self.reply("252 2.0.0 Ok" if _rest else "250 2.0.0 Ok")

    async def on_quit(self, _rest: str) -> None:
        """QUIT."""
        await self.reply("221 2.0.0 Bye", "quit")
        raise Ended


_HANDLERS: Final = {
    "EHLO": Session.on_ehlo,
    "HELO": Session.on_helo,
    "STARTTLS": Session.on_starttls,
    "AUTH": Session.on_auth,
    "MAIL": Session.on_mail,
    "RCPT": Session.on_rcpt,
    "DATA": Session.on_data,
    "RSET": Session.on_rset,
    "NOOP": Session.on_noop,
    "QUIT": Session.on_quit,
}


@functools.lru_cache(maxsize=256)
def server_context(
    certificate: Certificate, minimum: ssl.TLSVersion, maximum: ssl.TLSVersion, client_root: Path | None = None
) -> ssl.SSLContext:
    """A server's TLS context, made once for each certificate and range of versions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are what some tests are about
        context.minimum_version, context.maximum_version = minimum, maximum
    if minimum is not ssl.TLSVersion.MAXIMUM_SUPPORTED and minimum < ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(certificate.cert, certificate.key)
    if client_root is not None:
        context.load_verify_locations(client_root)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def render(text: str) -> bytes:
    """A reply for the wire: each line of several carries the code, with a hyphen on all but the last."""
    lines = text.split("\n")
    if len(lines) == 1:
        return f"{text}\r\n".encode()
    code = lines[0][:3]
    same = all(line[:3] == code for line in lines)
    if not same:
        return "".join(f"{line}\r\n" for line in lines).encode()
    *head, last = (line[4:] for line in lines)
    return ("".join(f"{code}-{line}\r\n" for line in head) + f"{code} {last}\r\n").encode()


def _path(argument: str) -> tuple[str | None, tuple[str, ...]]:
    """``FROM:<path> A B`` to its path and parameters."""
    _, colon, rest = argument.partition(":")
    rest = rest.strip()
    if not colon or not rest.startswith("<") or ">" not in rest:
        return None, ()
    path, _, parameters = rest[1:].rpartition(">")
    return path, tuple(parameters.split())


def _decode(text: str) -> str:
    try:
        return base64.b64decode(text).decode("utf-8", "replace")
    except binascii.Error:
        return ""
