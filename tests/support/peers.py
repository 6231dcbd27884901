"""Real peers from Debian packages, for tests marked ``peers``."""

import asyncio
import contextlib
import grp
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Self

import pytest

from relay.demo.authority import Certificate

_SBIN = ("/usr/sbin", "/sbin", "/usr/local/sbin")


def require(program: str) -> str:
    """The path of a peer; when it is missing the test is skipped, or fails under ``POSTERN_REQUIRE_PEERS=1``."""
    path = shutil.which(program) or next(
        (str(Path(place, program)) for place in _SBIN if os.access(Path(place, program), os.X_OK)), None
    )
    if path is None:
        unavailable(f"the peer {program} is not installed (tools/install-peers)")
    return path


def unavailable(message: str) -> NoReturn:
    """Skip the test that asks, or fail it under ``POSTERN_REQUIRE_PEERS=1``."""
    if os.environ.get("POSTERN_REQUIRE_PEERS") == "1":
        pytest.fail(message)
    pytest.skip(message)


# --- Postfix, as a server and as a client ---------------------------------

_MASTER = """\
{address}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """An instance of Postfix with directories, port and certificate of its own; it keeps mail in a Maildir.

    It serves ``domain``; with ``relayhost`` it sends mail for all other domains there.
    """

    def __init__(
        self,
        *,
        address: str,
        port: int,
        domain: str,
        certificate: Certificate,
        relayhost: tuple[str, int] | None = None,
    ) -> None:
        self._daemon = require("postfix")
        if os.geteuid() != 0:
            unavailable("an instance of Postfix is started by root alone")
        self.address, self.port, self.domain = address, port, domain
        # Its processes run as their own user: they cannot look into pytest's directories.
        self.directory = Path(tempfile.mkdtemp(prefix="postern-postfix-"))
        self._certificate = certificate
        self._relayhost = relayhost

    def _write(self) -> None:
        self.directory.chmod(0o755)
        for name in ("etc", "queue", "data", "mail"):
            (self.directory / name).mkdir(mode=0o755)
        shutil.chown(self.directory / "data", "postfix")
        shutil.chown(self.directory / "mail", "nobody", "nogroup")
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": self.directory / "queue",
            "data_directory": self.directory / "data",
            "myhostname": f"mx.{self.domain}",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "relayhost": "[{}]:{}".format(*self._relayhost) if self._relayhost else "",
            "smtpd_tls_cert_file": self._certificate.cert,
            "smtpd_tls_key_file": self._certificate.key,
            "smtpd_tls_security_level": "encrypt" if self._relayhost is None else "may",
            "smtpd_tls_received_header": "yes",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "virtual_mailbox_domains": self.domain,
            "virtual_mailbox_base": self.directory / "mail",
            "virtual_mailbox_maps": "static:inbox/",
            "virtual_uid_maps": f"static:{pwd.getpwnam('nobody').pw_uid}",
            "virtual_gid_maps": f"static:{grp.getgrnam('nogroup').gr_gid}",
            "virtual_minimum_uid": "1",
            "maillog_file": self.directory / "maillog",
            "maillog_file_prefixes": self.directory,
        }
        (self.directory / "etc" / "main.cf").write_text(
            "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        master = _MASTER.format(address=self.address, port=self.port)
        (self.directory / "etc" / "master.cf").write_text(master)

    async def __aenter__(self) -> Self:
        self._write()
        with (self.directory / "errors").open("wb") as errors:
            self._process = await asyncio.create_subprocess_exec(
                self._daemon, "-c", str(self.directory / "etc"), "start-fg",
                stdin=asyncio.subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True,
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
                try:
                    _, writer = await asyncio.open_connection(self.address, self.port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                await writer.wait_closed()
                return
        raise AssertionError(f"Postfix did not start:\n{self.log()}")

    async def __aexit__(self, *_: object) -> None:
        await self._end_master()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            await self._process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _end_master(self) -> None:
        """It has a session of its own, so that no signal to our group reaches it; it ends all that it started."""
        written = self.directory / "queue" / "pid" / "master.pid"
        with contextlib.suppress(OSError, ValueError):
            master = os.pidfd_open(int(written.read_text()))
            try:
                signal.pidfd_send_signal(master, signal.SIGTERM)
                ended = asyncio.Event()
                asyncio.get_running_loop().add_reader(master, ended.set)
                async with asyncio.timeout(30):
                    await ended.wait()
            finally:
                asyncio.get_running_loop().remove_reader(master)
                os.close(master)

    def log(self) -> str:
        """What Postfix wrote."""
        files = (self.directory / "errors", self.directory / "maillog")
        return "".join(file.read_text(errors="replace") for file in files if file.exists())

    def mail(self) -> list[bytes]:
        """What arrived, with CRLF line ends, oldest first."""
        found = sorted((self.directory / "mail" / "inbox" / "new").glob("*"), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for path in found]

    async def wait_mail(self, count: int) -> list[bytes]:
        """Wait until so many messages arrived."""
        try:
            async with asyncio.timeout(60):
                while len(found := self.mail()) < count:  # noqa: ASYNC110  Postfix tells nobody
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"{len(self.mail())} of {count} messages arrived:\n{self.log()[-4000:]}") from None
        return found


# --- who verifies signatures ------------------------------------------------


def opendkim_says(directory: Path, content: bytes, records: Mapping[str, str]) -> str:
    """OpenDKIM's verdict on a message as it arrived.

    Args:
        directory: for its files.
        content: the message.
        records: names of key records to their text.
    """
    (directory / "message").write_bytes(content)
    (directory / "keys").write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    config = directory / "opendkim.conf"
    config.write_text(f"TestPublicKeys {directory}/keys\nSyslog no\nMode v\nBaseDirectory {directory}\n")
    command = [require("opendkim"), "-x", str(config), "-t", str(directory / "message"), "-vv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr
