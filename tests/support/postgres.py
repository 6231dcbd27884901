"""A PostgreSQL of one's own: on a free port and in a directory that goes with it; as user postgres when we are root."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import psycopg

from relay.demo.ports import free_port
from tests.support.peers import require

_PACKAGED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
CONF = """
fsync = on
synchronous_commit = on
max_connections = 120
wal_level = replica
max_wal_senders = 5
shared_buffers = 128MB
max_wal_size = 2GB
autovacuum_naptime = 10s
log_min_messages = warning
wal_retrieve_retry_interval = 100ms
"""


def program(name: str) -> str:
    """A server program; the test that asks is skipped, or fails, when it is not installed."""
    for place in _PACKAGED:
        if (place / name).exists():
            return str(place / name)
    return require(name)


def as_postgres(*command: str) -> list[str]:
    """The server refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command] if os.geteuid() == 0 else [
        *command
    ]  # fmt: skip


class Cluster:
    """One server. ``home`` is made and removed with it."""

    def __init__(
        self, conf: str = "", *, host: str = "127.0.0.1", inside: tuple[str, ...] = (), trusted: str = ""
    ) -> None:
        """Prepare.

        Args:
            conf: more lines of its configuration.
            host: where it listens.
            inside: the prefix that runs a program where that address is.
            trusted: a network besides loopback from which anybody is let in, standbys too.
        """
        self.initdb = program("initdb")
        self.home = Path(tempfile.mkdtemp(prefix="postern-pg-"))
        self.data = self.home / "data"
        self.host = host
        self.port = free_port()
        self._conf = conf
        self._inside = inside
        self._trusted = trusted
        self._server: subprocess.Popen | None = None
        if os.geteuid() == 0:
            shutil.chown(self.home, "postgres", "postgres")
        self.home.chmod(0o700)

    def make(self) -> "Cluster":
        initdb = [self.initdb, "-D", str(self.data), "-U", "postern", "-A", "trust", "--no-sync", "-E", "UTF8"]
        self._call(*initdb, "--locale=C")
        if self._trusted:
            with (self.data / "pg_hba.conf").open("a") as file:
                file.write(f"host all,replication all {self._trusted} trust\n")
        self.write_conf(self._conf)
        return self

    def copy_of(self, primary: "Cluster") -> "Cluster":
        """Become a standby of a running server."""
        base = ["-h", primary.host, "-p", str(primary.port), "-U", "postern", "-D", str(self.data)]
        self._call(program("pg_basebackup"), *base, "-R", "-c", "fast", "-X", "stream")
        self.write_conf(self._conf)
        return self

    def write_conf(self, more: str = "") -> None:
        where = f"listen_addresses = '{self.host}'\nport = {self.port}\nunix_socket_directories = '{self.home}'\n"
        text = f"{CONF}\n{where}{more}\n"
        (self.data / "postgresql.conf").write_text(text)

    def _call(self, *command: str) -> None:
        done = subprocess.run(as_postgres(*command), capture_output=True, text=True, cwd="/", check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")

    def start(self) -> "Cluster":
        log = (self.home / "log").open("ab")
        with log:
            command = [*self._inside, *as_postgres(program("postgres"), "-D", str(self.data))]
            self._server = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        self.wait_ready()
        return self

    def wait_ready(self) -> None:
        for _ in range(1200):
            if self._server is not None and self._server.poll() is not None:
                raise RuntimeError((self.home / "log").read_text())
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if "password" in str(error):
                    raise
                self._server.poll()
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("PostgreSQL did not start: " + (self.home / "log").read_text())

    def kill(self) -> None:
        """As a power cut would have it, save that the disk's cache survives: every process of it gets SIGKILL."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait()
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """The server's process and those that it started."""
        listed = subprocess.run(["pgrep", "-P", str(self._server.pid)], capture_output=True, text=True, check=False)
        return [self._server.pid, *map(int, listed.stdout.split())]

    def freeze(self, *, on: bool) -> None:
        """Stop or continue every process: connections stay open and nothing answers."""
        for pid in self.processes():
            os.kill(pid, signal.SIGSTOP if on else signal.SIGCONT)

    def wait_for_standby(self) -> None:
        """Have every commit wait for the standby from now on, once that has caught up."""
        self.sql("ALTER SYSTEM SET synchronous_standby_names = '*'", schema="public")
        self.sql("SELECT pg_reload_conf()", schema="public")
        for _ in range(1200):
            if self.sql("SELECT sync_state FROM pg_stat_replication", schema="public") == [("sync",)]:
                return
            time.sleep(0.05)
        raise RuntimeError("the standby is not synchronous: " + (self.home / "log").read_text())

    def promote(self) -> None:
        self._call(program("pg_ctl"), "promote", "-D", str(self.data), "-w")

    def stop(self, how: int = signal.SIGINT) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(how)
            self._server.wait(30)

    def remove(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(30)
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def dsn(self) -> str:
        return f"postgresql://postern@{self.host}:{self.port}/postgres"

    def database(self) -> str:
        """The URI of a database of its own, which goes with the server."""
        name = f"d{uuid.uuid4().hex}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://postern@{self.host}:{self.port}/{name}"

    def files_of(self, dsn: str) -> Path:
        """The directory with the files of a database's tables."""
        ((oid,),) = self.sql("SELECT oid FROM pg_database WHERE datname = %s", (dsn.rpartition("/")[2],))
        return self.data / "base" / str(oid)

    def drop(self, dsn: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self.sql(f"DROP DATABASE {dsn.rpartition('/')[2]} WITH (FORCE)")

    def sql(self, query: str, values: Sequence = (), *, schema: str = "postern") -> list[tuple]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f'SET search_path TO "{schema}"')
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []


class Bouncer:
    """A PgBouncer before a server. Use as a context manager."""

    def __init__(self, cluster: Cluster, mode: str, size: int = 20) -> None:
        self._program = require("pgbouncer")
        self._cluster, self._mode, self._size = cluster, mode, size
        self.port = free_port()
        self._home = Path(tempfile.mkdtemp(prefix="postern-bouncer-"))
        self._process: subprocess.Popen | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://postern@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        server = f"host={self._cluster.host} port={self._cluster.port} user=postern"
        (self._home / "ini").write_text(
            f"[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = any\npool_mode = {self._mode}\ndefault_pool_size = {self._size}\n"
            f"logfile = {self._home}/log\nlog_connections = 0\nlog_disconnections = 0\n"
        )
        if os.geteuid() == 0:
            shutil.chown(self._home, "postgres", "postgres")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def start(self) -> None:
        command = as_postgres(self._program, "-q", str(self._home / "ini"))
        self._process = subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL)
        for _ in range(600):
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
                return
            time.sleep(0.05)
        raise RuntimeError("PgBouncer did not start: " + (self._home / "log").read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@functools.cache
def shared() -> Cluster:
    """One server for all tests of this process that do no harm to it."""
    cluster = Cluster().make().start()
    atexit.register(cluster.remove)
    return cluster
