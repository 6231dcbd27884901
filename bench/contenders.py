"""Who is measured: Postern here, the peers in `peers.py`; each is brought up for one run and ended after it."""

import contextlib
import os
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from cases import Case, SinkTls
from measure import Group

from relay import __version__
from relay.demo.authority import Authority
from relay.demo.site import POLICIES, Site, SiteOptions

SINK_NAME: Final = "sink.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a contender runs.

    Attributes:
        directory: one of its own.
        sink: its port on 127.0.0.1.
        authority: who vouches for the sink's certificate.
        group: its processes.
        environment: of all its processes: the shim that slows fsync.
    """

    case: Case
    directory: Path
    sink: int
    authority: Authority
    group: Group
    environment: Mapping[str, str] = field(default_factory=dict)


class Contender(Protocol):
    """Something that relays mail to the sink."""

    name: str

    def running(self, setting: Setting) -> contextlib.AbstractAsyncContextManager[int]:
        """Bring it up; the value is the port on 127.0.0.1 that takes mail."""

    def missing(self) -> list[str]:
        """What must be installed first, in words; empty when it can run."""

    def version(self) -> str:
        """Of its programs."""


class Postern:
    """Postern as `postern run` makes it, with the default policy."""

    name = "postern"

    def __init__(self, workers: int = 2) -> None:
        self._workers = workers

    def missing(self) -> list[str]:
        return []

    def version(self) -> str:
        optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
        plain = "the distribution's" if sys.base_prefix == "/usr" else "not built with --enable-optimizations"
        built = "built with --enable-optimizations" if optimised else plain
        return f"Postern {__version__}, Python {sys.version.split()[0]} ({built})"

    @contextlib.asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[int]:
        with contextlib.ExitStack() as stack:
            settings = _settings(setting)
            if setting.case.store == "postgres":
                settings["store"] = stack.enter_context(_database(setting))
            site = Site(setting.directory / "site", self._options(setting, settings))
            site.prepare()
            if setting.case.waiting:
                from stuffed import stuff  # noqa: PLC0415  for one case alone

                await stuff(site, setting.case.waiting)
            await site.start(prefix=setting.group.prefix)
            if site.process is not None:
                setting.group.adopt(site.process.pid)
            try:
                yield site.relay[1]
            finally:
                await site.stop()

    def _options(self, setting: Setting, settings: dict[str, Any]) -> SiteOptions:
        case = setting.case
        return SiteOptions(
            workers=case.workers or self._workers,
            dkim=(case.dkim,),
            policy=_policies(setting),
            settings=settings,
            environment=setting.environment,
        )


@contextlib.contextmanager
def _database(setting: Setting):  # noqa: ANN202  an address, while it runs
    """A PostgreSQL whose processes count as Postern's."""
    from tests.support.postgres import Cluster  # noqa: PLC0415  for one case alone

    cluster = Cluster(inside=setting.group.prefix).make().start()
    for pid in cluster.processes():
        setting.group.adopt(pid)
    try:
        yield cluster.dsn
    finally:
        cluster.remove()


def _settings(setting: Setting) -> dict[str, Any]:
    clear = setting.case.tls is SinkTls.NONE
    settings: dict[str, Any] = {
        "routes": [
            {
                "name": "sink",
                "domains": ["*"],
                "hosts": [f"127.0.0.1:{setting.sink}"],
                "tls": "opportunistic" if clear else "verified",
                "internal": True,
            }
        ],
        "tls": {"trust_roots": str(setting.authority.root)},
        "limits": {"messages_per_connection": 100_000, "commands_per_connection": 1_000_000},
    }
    if setting.case.tls is SinkTls.EACH:
        settings["delivery"] = {"messages_per_session": 1}
    return settings


def _policies(setting: Setting) -> Path:
    """The default policy; where the sink has no TLS the same rules with floors that let mail reach it all the same."""
    if setting.case.tls is not SinkTls.NONE:
        return POLICIES
    directory = setting.directory / "policies"
    shutil.copytree(POLICIES, directory)
    main = directory / "main.yaml"
    rules, _, _ = main.read_text().partition("\ntests:")  # they prove the floors that are lowered here
    main.write_text(rules.replace("require: verified", "require: clear").replace("tls: verified", "tls: opportunistic"))
    return directory


def slowed(shim: Path, milliseconds: int) -> dict[str, str]:
    """The environment in which fsync takes longer."""
    return {"LD_PRELOAD": str(shim), "POSTERN_BENCH_FSYNC_MS": str(milliseconds)} if milliseconds else {}


def with_environment(setting: Setting) -> dict[str, str]:
    """This process's environment and the setting's."""
    return os.environ | dict(setting.environment)
