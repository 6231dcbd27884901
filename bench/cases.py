"""What is measured: each case says how mail comes, what it is, how it leaves and what is made harder."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from messages import Kind

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
        half: messages come at half the rate that was measured just before, begun on time whatever the answers.
        dkim: algorithm of the signature.
        slow_fsync: each fsync and fdatasync takes so many milliseconds longer.
        store: where Postern's queue is.
        waiting: deferred entries in Postern's queue before the first message.
        workers: Postern's worker processes; 0: as asked for.
        peers: whether the peers are measured in it too.
        thrice: one of the cases that are run several times: the rest show what a difference costs.
    """

    name: str
    tls: SinkTls = SinkTls.KEPT
    kind: Kind = field(default_factory=Kind)
    reuse: bool = True
    share: float = 1.0
    half: bool = False
    dkim: str = "rsa"
    slow_fsync: int = 0
    store: str = "sqlite"
    waiting: int = 0
    workers: int = 0
    peers: bool = True
    thrice: bool = False


CASES: Final = (
    Case(name="main", tls=SinkTls.NONE, thrice=True),
    Case(name="main-tls", tls=SinkTls.EACH, thrice=True),
    Case(name="tls-kept", thrice=True),
    Case(name="half-load", tls=SinkTls.NONE, half=True),
    Case(name="one-per-connection", tls=SinkTls.NONE, reuse=False),
    Case(name="large-html", tls=SinkTls.NONE, kind=Kind(size=51_200, html=True), share=0.25),
    Case(name="pdf-1mb", tls=SinkTls.NONE, kind=Kind(size=1_000_000, pdf=True), share=0.04),
    Case(name="recipients-100", tls=SinkTls.NONE, kind=Kind(recipients=100), share=0.1),
    Case(name="domains-10000", tls=SinkTls.NONE, kind=Kind(domains=10_000)),
    Case(name="slow-fsync", tls=SinkTls.NONE, slow_fsync=4),
    Case(name="ed25519", tls=SinkTls.NONE, dkim="ed25519", peers=False),
    Case(name="workers-1", tls=SinkTls.NONE, workers=1, peers=False),
    Case(name="workers-4", tls=SinkTls.NONE, workers=4, peers=False),
    Case(name="deferred-1m", tls=SinkTls.NONE, waiting=1_000_000, peers=False),
    Case(name="postgres", tls=SinkTls.NONE, store="postgres", peers=False),
)
