"""OpenSMTPD as a receiving server, from Debian's package, unpacked beside the machine's own mail server."""

import asyncio
import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import Self

from relay.demo.authority import Certificate
from tests.support.peers import require, unavailable
from tests.support.shim import own_key_shim

ASIDE = Path("/opt/postern-peers/opensmtpd/usr/sbin/smtpd")
"""Where tools/install-peers unpacks it: its package would take the place of Postfix."""

_CONFIG = """\
{ciphers}
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
mount --bind {names} /etc/resolv.conf
exec {program} -d -f {config}
"""
_NAMES = "lookup file\n"
"""Its resolver's settings: it greets nobody before it has looked for a name of his address, in files alone here."""
_OLD_TLS = """\
openssl_conf = all
[all]
ssl_conf = kinds
[kinds]
system_default = old
[old]
MinProtocol = TLSv1
MaxProtocol = TLSv1
"""


class OpenSmtpd:
    """One instance, in a mount namespace of its own since its spool and socket have fixed places.

    Args:
        next_port: where it passes on what it takes.
        mended: given back what it lacks under OpenSSL 3, with which Debian 12 builds it: without, it offers STARTTLS
            and no handshake ends well.
        old_tls: it speaks nothing newer than TLS 1.0.
    """

    def __init__(
        self,
        *,
        address: str,
        port: int,
        certificate: Certificate,
        next_port: int,
        mended: bool = True,
        old_tls: bool = False,
    ) -> None:
        self._program = str(ASIDE) if ASIDE.exists() else require("smtpd")
        self._unshare = require("unshare")
        if os.geteuid() != 0:
            unavailable("OpenSMTPD is started by root alone")
        self.address, self.port = address, port
        self._certificate = certificate
        self._next = next_port
        self._mended, self._old_tls = mended, old_tls

    def _write(self) -> str:
        self._directory = tempfile.TemporaryDirectory(prefix="postern-opensmtpd-")
        config, names, tls = (Path(self._directory.name, name) for name in ("smtpd.conf", "resolv.conf", "openssl.cnf"))
        config.write_text(
            _CONFIG.format(
                cert=self._certificate.cert, key=self._certificate.key, address=self.address, port=self.port,
                next=self._next, ciphers='smtp ciphers "ALL:@SECLEVEL=0"' if self._old_tls else "",
            )
        )  # fmt: skip
        config.chmod(0o600)
        names.write_text(_NAMES)
        tls.write_text(_OLD_TLS)
        self._environment = dict(os.environ)
        if self._mended:
            self._environment["LD_PRELOAD"] = str(own_key_shim())
        if self._old_tls:
            self._environment["OPENSSL_CONF"] = str(tls)
        self._log = Path(self._directory.name, "log")
        return _START.format(program=self._program, config=config, names=names)

    async def __aenter__(self) -> Self:
        start = self._write()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._unshare, "--mount", "sh", "-c", start, env=self._environment,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            await self._answers()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def _answers(self) -> None:
        async with asyncio.timeout(60):
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

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._directory.cleanup()
