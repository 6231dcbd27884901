"""OpenSMTPD as a receiving server, from Debian's package, unpacked beside the machine's own mail server."""

import asyncio
import contextlib
import os
import signal
import ssl
import tempfile
from pathlib import Path
from typing import Self

from relay.demo.authority import Certificate
from tests.support.peers import require, unavailable

ASIDE = Path("/opt/postern-peers/opensmtpd/usr/sbin/smtpd")
"""Where tools/install-peers unpacks it: its package would take the place of Postfix."""

_CONFIG = """\
pki ours cert "{cert}"
pki ours key "{key}"
listen on {address} port {port} tls pki ours hostname mx.good.example
action "on" relay host smtp://{address}:{next}
match from any for any action "on"
"""
_START = """\
set -e
mount -t tmpfs tmpfs /var/spool; mkdir -m 711 /var/spool/smtpd
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib; mkdir -p -m 755 /var/lib/opensmtpd/empty
exec {program} -d -f {config}
"""


class OpenSmtpd:
    """One instance, in a mount namespace of its own since its spool and socket have fixed places.

    It passes on what it takes to a server on port ``next``.
    """

    def __init__(self, *, address: str, port: int, certificate: Certificate, next_port: int) -> None:
        self._program = str(ASIDE) if ASIDE.exists() else require("smtpd")
        self._unshare = require("unshare")
        if os.geteuid() != 0:
            unavailable("OpenSMTPD is started by root alone")
        self.address, self.port = address, port
        self._certificate = certificate
        self._next = next_port

    def _write(self) -> Path:
        self._directory = tempfile.TemporaryDirectory(prefix="postern-opensmtpd-")
        config = Path(self._directory.name, "smtpd.conf")
        config.write_text(
            _CONFIG.format(
                cert=self._certificate.cert, key=self._certificate.key, address=self.address, port=self.port,
                next=self._next,
            )
        )  # fmt: skip
        config.chmod(0o600)
        self._log = Path(self._directory.name, "log")
        return config

    async def __aenter__(self) -> Self:
        config = self._write()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._unshare, "--mount", "sh", "-c", _START.format(program=self._program, config=config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            await self._answers()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _answers(self) -> None:
        async with asyncio.timeout(30):
            while self._process.returncode is None:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection(self.address, self.port)
                    greeting = await reader.readline()
                    writer.close()
                    if greeting.startswith(b"220"):
                        return
                await asyncio.sleep(0.05)
        said = self._log.read_text()
        if "unshare" in said or "mount:" in said:
            unavailable(f"OpenSMTPD needs a mount namespace, which this machine does not give: {said.strip()[-200:]}")
        raise AssertionError(f"OpenSMTPD did not start:\n{said}")

    async def serves_tls(self) -> bool:
        """Whether it can finish a handshake with anybody.

        Version 6.8 with OpenSSL 3, as in Debian 12, cannot: it offers STARTTLS and then fails to use its own key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection(self.address, self.port)
        try:
            for command in (b"EHLO test.example\r\n", b"STARTTLS\r\n"):
                await _reply(reader)
                writer.write(command)
            await _reply(reader)
            await writer.start_tls(context)
        except (ssl.SSLError, ConnectionError):
            return False
        finally:
            writer.transport.abort()
        return True

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._directory.cleanup()


async def _reply(reader: asyncio.StreamReader) -> bytes:
    while True:
        line = await reader.readline()
        if line[3:4] != b"-":
            return line
