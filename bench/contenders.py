"""Who is measured: Postern here, the peers in `peers.py`; each is brought up for one run and ended after it."""

import contextlib
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from measure import Group
from messages import Kind

from relay.demo.authority import Authority
from relay.demo.site import POLICIES, Site, SiteOptions

SESSIONS: Final = 20


class SinkTls(StrEnum):
    """How mail reaches the sink."""

    NONE = "in the clear"
    EACH = "verified TLS, a new connection for each message"
    KEPT = "verified TLS, connections kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure.

    Attributes:
        name: as in the results.
        tls: how mail reaches the sink.
        kind: the messages.
        reuse: many messages a connection on the way in.
        share: of the usual number of messages, so that heavy cases take no longer.
        dkim: algorithm of the signature.
        peers: whether the peers are measured in it too.
    """

    name: str
    tls: SinkTls = SinkTls.KEPT
    kind: Kind = field(default_factory=Kind)
    reuse: bool = True
    share: float = 1.0
    dkim: str = "rsa"
    peers: bool = True


CASES: Final = (
    Case(name="main", tls=SinkTls.NONE),
    Case(name="main-tls", tls=SinkTls.EACH),
    Case(name="tls-kept"),
    Case(name="one-per-connection", reuse=False),
    Case(name="large-html", kind=Kind(size=51_200, html=True), share=0.2),
    Case(name="recipients-100", kind=Kind(recipients=100), share=0.1),
    Case(name="ed25519", dkim="ed25519", peers=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Where a contender runs: a directory of its own, the sink's port, who vouches for the sink, and its processes."""

    case: Case
    directory: Path
    sink: int
    authority: Authority
    group: Group
    workers: int = 2


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
        from relay import __version__  # noqa: PLC0415  only for the table

        return f"Postern {__version__}, Python {sys.version.split()[0]}"

    @contextlib.asynccontextmanager
    async def running(self, setting: Setting) -> AsyncIterator[int]:
        case = setting.case
        options = SiteOptions(
            workers=self._workers,
            dkim=(case.dkim,),
            policy=_policies(setting),
            settings=_settings(setting),
        )
        site = Site(setting.directory / "site", options)
        site.prepare()
        await site.start(prefix=setting.group.prefix)
        if site.process is not None:
            setting.group.adopt(site.process.pid)
        try:
            yield site.relay[1]
        finally:
            await site.stop()


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
