"""A whole Postern in one directory on loopback: for the demo, and for every test and measurement from outside."""

import asyncio
import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from relay.demo.authority import Authority
from relay.demo.ports import free_port

POLICIES: Final = Path(__file__).parent.parent.parent / "policies"
"""The policy files of the source tree, which the demo runs with."""
_START: Final = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """What a site differs in.

    Attributes:
        domain: the sending clinic's domain; its client ``ehr`` may send as anyone in it.
        hostname: what the relay calls itself.
        dns_port: port on 127.0.0.1 of the DNS it asks; by default nobody answers there.
        smtp_port: port of the recipients' mail servers.
        workers: worker processes.
        policy: directory of policies to copy, with ``main.yaml`` in it.
        within: replaces ``within: 15m`` in the copied policies, so that a demo does not take a quarter of an hour.
        settings: merged over the configuration, section by section.
        dkim: sign for the domain, with these algorithms.
        portal: whether there is a secure page; it is served on localhost without TLS.
        environment: for the started processes (LD_PRELOAD of a fault shim, say).
    """

    domain: str = "clinic.example"
    hostname: str = "relay.clinic.example"
    dns_port: int = 9
    smtp_port: int = 25
    workers: int = 2
    policy: Path = POLICIES
    within: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    dkim: tuple[str, ...] = ("rsa", "ed25519")
    portal: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


class Site:
    """One installation: ``prepare`` writes its files, ``start`` runs it until ``stop`` or ``kill``.

    Attributes:
        directory: everything lies below it.
        submission: (host, port) with STARTTLS and AUTH.
        relay: (host, port) in the clear for the trusted network: loopback.
        admin: (host, port) of metrics and health.
        portal: (host, port) of the secure page.
        secret: of the client ``ehr``.
        config: the configuration file.
        log: the JSON log of all its processes.
    """

    def __init__(self, directory: Path, options: SiteOptions | None = None) -> None:
        self.options = options or SiteOptions()
        self.directory = directory
        self.authority = Authority(directory / "authority")
        self.submission = ("127.0.0.1", free_port())
        self.relay = ("127.0.0.1", free_port())
        self.admin = ("127.0.0.1", free_port())
        self.portal = ("localhost", free_port())
        self.secret = secrets.token_hex(32)  # nothing that a program could take for an option
        self.config = directory / "etc" / "postern.yaml"
        self.log = directory / "postern.log"
        self.process: asyncio.subprocess.Process | None = None

    # --- files -----------------------------------------------------------

    def prepare(self) -> None:
        """Write configuration, client, policies, certificates and keys."""
        etc = self.config.parent
        (etc / "clients").mkdir(parents=True, exist_ok=True)
        (self.directory / "data").mkdir(mode=0o700, exist_ok=True)
        (self.directory / "run").mkdir(exist_ok=True)
        self._write_policies(etc / "policies")
        self._write_client(etc / "clients" / "ehr.yaml")
        self.config.write_text(yaml.safe_dump(self._settings(), sort_keys=False))
        self._make_keys()

    def _settings(self) -> dict[str, Any]:
        certificate = self.authority.issue(self.options.hostname)
        base: dict[str, Any] = {
            "hostname": self.options.hostname,
            "data_dir": str(self.directory / "data"),
            "run_dir": str(self.directory / "run"),
            "keys_dir": str(self.directory / "keys"),
            "workers": self.options.workers,
            "listeners": [
                {
                    "name": "ehr", "kind": "submission", "address": self.submission[0], "port": self.submission[1],
                    "certificate": str(certificate.cert), "key": str(certificate.key),
                },
                {
                    "name": "inside", "kind": "relay", "address": self.relay[0], "port": self.relay[1], "tls": "none",
                    "networks": ["127.0.0.0/8"], "trust_networks": {"127.0.0.0/8": "ehr"},
                },
            ],
            "limits": {"disk_reserve": "64MiB"},
            "dns": {"nameservers": ["127.0.0.1"], "port": self.options.dns_port, "timeout": "1s", "lifetime": "3s"},
            "tls": {"trust_roots": str(self.authority.root)},
            "delivery": {"port": self.options.smtp_port, "ipv6": False, "allowed_special_networks": ["127.0.0.0/8"]},
            "log": {"format": "json", "file": str(self.log)},
            "admin": {"address": self.admin[0], "port": self.admin[1]},
            "control": {"operators": ["root", _user()]},
            "process": {"drain": "10s"},
        }  # fmt: skip
        if self.options.portal:
            base["portal"] = {
                "origin": f"http://{self.portal[0]}:{self.portal[1]}",
                "mail_from": f"secure@{self.options.domain}",
                "port": self.portal[1],
                "keys_dir": str(self.directory / "portal-keys"),
                "brands": [{"tenant": "clinic", "name": "Riverside Clinic", "phone": "555-0100"}],
            }
        return _merged(base, self.options.settings)

    def _write_policies(self, target: Path) -> None:
        shutil.copytree(self.options.policy, target, dirs_exist_ok=True)
        if self.options.within:
            for file in target.rglob("*.yaml"):
                file.write_text(file.read_text().replace("within: 15m", f"within: {self.options.within}"))

    def _write_client(self, file: Path) -> None:
        client = {
            "name": "ehr",
            "tenant": "clinic",
            "secret_sha256": hashlib.sha256(self.secret.encode()).hexdigest(),
            "sender_domains": [self.options.domain],
            "messages_per_minute": 1_000_000,
            "messages_per_hour": 100_000_000,
        }
        file.write_text(yaml.safe_dump(client))
        file.chmod(0o640)

    def _make_keys(self) -> None:
        self.postern("keys", "init")
        if self.options.portal:
            self.postern("portal", "init")
        if self.options.dkim:
            algorithm = self.options.dkim[0] if len(self.options.dkim) == 1 else "both"
            self.postern("dkim", "new", self.options.domain, "--algorithm", algorithm)

    # --- commands ----------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        """The command line of one ``postern`` verb; it finds this site through :meth:`environment`."""
        return [sys.executable, "-m", "relay", *arguments]

    def environment(self) -> dict[str, str]:
        """What a ``postern`` verb needs in its environment to find this site."""
        return os.environ | {"POSTERN_CONFIG": str(self.config)}

    def postern(self, *arguments: str) -> str:
        """Run a verb to its end; its standard output.

        Raises:
            RuntimeError: with what it said, when it failed.
        """
        done = subprocess.run(  # noqa: S603  our own command
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"postern {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    # --- life --------------------------------------------------------------

    async def start(self, *, prefix: tuple[str, ...] = ()) -> None:
        """Start the supervisor and wait until it says that it is ready.

        Args:
            prefix: a program to start it under, such as ``strace``.

        Raises:
            RuntimeError: it ended or was not ready in time; the text holds the end of its log.
        """
        path = self.directory / "notify.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notices:
            notices.bind(str(path))
            with self.log.with_suffix(".stderr").open("ab") as errors:
                self.process = await asyncio.create_subprocess_exec(
                    *prefix, *self.command("run"), stdin=asyncio.subprocess.DEVNULL, stdout=errors, stderr=errors,
                    env=self.environment() | {"NOTIFY_SOCKET": str(path)} | dict(self.options.environment),
                    start_new_session=True,
                )  # fmt: skip
            ready = asyncio.ensure_future(_wait_ready(notices))
            ended = asyncio.ensure_future(self.process.wait())
            await asyncio.wait({ready, ended}, timeout=_START, return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            if not ready.done():
                ready.cancel()
                self.kill()
                await self.process.wait()
                raise RuntimeError(f"the site did not start:\n{self.last_words()}")
        path.unlink(missing_ok=True)

    def last_words(self) -> str:
        """The end of what its processes wrote."""
        texts = (
            file.read_text(errors="replace") for file in (self.log.with_suffix(".stderr"), self.log) if file.exists()
        )
        return "\n".join(text[-4000:] for text in texts)

    async def stop(self) -> int:
        """SIGTERM, and wait for its end; the exit status."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        return await self.process.wait()

    def kill(self) -> None:
        """SIGKILL for the supervisor and everything it started, at one moment."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def worker_pids(self) -> list[int]:
        """The worker processes that are alive now."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                title = (entry / "cmdline").read_bytes()
                if self.process and int(status[1]) == self.process.pid and title.startswith(b"postern: worker"):
                    found.append(int(entry.name))
        return found


async def _wait_ready(notices: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while b"READY=1" not in (await loop.sock_recv(notices, 4096)).split(b"\n"):
        pass


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name
