"""A live session with a peer: transactions over a connection whose level was judged once and is checked each time."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from relay.core.level import Level, Proof
from relay.core.outcome import (
    Failure,
    PeerFeatures,
    RecipientResult,
    Stage,
    Transaction,
    TransactionResult,
    Trouble,
)
from relay.core.ports import Metrics
from relay.net.clear import send_in_the_clear
from relay.net.deadlines import Deadlines
from relay.net.link import Link
from relay.net.timer import Timer
from relay.smtp.client import FENCED, ClientTransaction, State

_PIECE: Final = 65_536  # octets given to the transport at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionContext:
    """What a session is told besides its connection."""

    proof: Proof
    features: PeerFeatures
    deadlines: Deadlines
    metrics: Metrics | None = None
    ended: Callable[[], None] | None = None
    """Called once, when the connection is gone."""


class SmtpSession(asyncio.Protocol):
    """Implements ``DeliverySession`` over a transport that it takes from the handshake. One transaction at a time."""

    def __init__(self, context: SessionContext) -> None:
        self._proof = context.proof
        self._features = context.features
        self._deadlines = context.deadlines
        self._metrics = context.metrics
        self._ended = context.ended
        self._loop = asyncio.get_running_loop()
        self._link: Link | None = None
        self._tls: ssl.SSLObject | None = None
        self._machine: ClientTransaction | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._alive = False
        self._quitting = False
        self._paused = False
        self._unsent = memoryview(b"")
        self._timer = Timer(self._loop, self._on_timer)
        self._end = 0.0

    def attach(self, link: Link) -> None:
        """Take the connection that now calls this protocol."""
        self._link = link
        self._tls = link.tls
        self._alive = True

    # --- DeliverySession ---

    @property
    def proof(self) -> Proof:
        """What the connection reached."""
        return self._proof

    @property
    def features(self) -> PeerFeatures:
        """What the peer offers after TLS."""
        return self._features

    @property
    def alive(self) -> bool:
        """Whether another transaction may be tried on it."""
        return self._alive and self._link is not None and not self._link.is_closing

    async def transact(self, transaction: Transaction) -> TransactionResult:
        """Send one transaction. Never raises for what the peer does.

        Below the transaction's floor nothing is sent, not even MAIL (law 2): every recipient gets ``BELOW_FLOOR``.

        Raises:
            RuntimeError: another transaction is on its way.
        """
        if self._machine is not None:
            raise RuntimeError("a session carries one transaction at a time")
        link = self._link
        if link is None or not self.alive:
            return self._refuse(transaction, Trouble.NETWORK, "the connection has ended")
        if self._proof.level < transaction.floor:
            floor, level = transaction.floor.word, self._proof.level.word
            return self._refuse(transaction, Trouble.BELOW_FLOOR, f"the floor is {floor}, the connection {level}")
        if self._proof.level is Level.CLEAR:
            return await send_in_the_clear(self._exchange, transaction, self._metrics)
        if self._tls is None or link.tls is not self._tls:
            self._drop()
            return self._refuse(transaction, Trouble.BELOW_FLOOR, "the connection is not the one that was judged")
        return await self._exchange(transaction)

    async def close(self) -> None:
        """QUIT politely and briefly."""
        link = self._link
        if link is None:
            return
        if self.alive and self._machine is None:
            self._quitting = True
            link.part(b"QUIT\r\n")
            self._timer.set(self._loop.time() + self._deadlines.quit)
        else:
            link.abort()
        self._alive = False
        await asyncio.shield(self._closed)

    # --- one transaction ---

    async def _exchange(self, transaction: Transaction) -> TransactionResult:
        machine = ClientTransaction(transaction, self._features, host=self._proof.host)
        first = machine.start()
        if not machine.done:
            self._machine = machine
            self._waiter = self._loop.create_future()
            self._end = self._loop.time() + self._deadlines.transaction
            self._send(first)
            self._watch(machine)
            try:
                await self._waiter
            except BaseException:
                self._drop()  # cancelled half-way: the peer's state is unknown
                raise
            finally:
                self._machine = self._waiter = None
                self._timer.rest()
            if not machine.reusable:
                self._drop()
        return TransactionResult(results=machine.results, proof=self._proof, reusable=self.alive)

    def _refuse(self, transaction: Transaction, trouble: Trouble, detail: str) -> TransactionResult:
        failure = Failure(trouble=trouble, stage=Stage.MAIL, detail=detail, host=self._proof.host)
        results = tuple(RecipientResult(number=number, failure=failure) for number, _ in transaction.recipients)
        return TransactionResult(results=results, proof=self._proof, reusable=self.alive)

    def _drop(self) -> None:
        self._alive = False
        self._unsent = memoryview(b"")
        if self._link is not None:
            self._link.abort()

    # --- sending ---

    def _send(self, data: bytes) -> None:
        if len(data) <= _PIECE and not self._paused and not self._unsent and self._link is not None:
            self._link.write(data)
            return
        self._unsent = memoryview(bytes(self._unsent) + data) if self._unsent else memoryview(data)
        self._pump()

    def _pump(self) -> None:
        while self._unsent and not self._paused and self._link is not None:
            if len(self._unsent) <= _PIECE and self._machine is not None and not self._machine.may_end:
                self._finish(self._machine, FENCED)
                return
            piece, self._unsent = self._unsent[:_PIECE], self._unsent[_PIECE:]
            self._link.write(piece)

    @property
    def _all_sent(self) -> bool:
        link = self._link
        return not self._unsent and link is not None and link.unsent == 0

    # --- deadlines ---

    def _watch(self, machine: ClientTransaction) -> None:
        if machine.state is State.RSET:
            span = self._deadlines.reset
        elif self._unsent:
            span = self._deadlines.block
        else:
            span = self._deadlines.of(machine.stage)
        self._timer.set(min(self._loop.time() + span, self._end))

    def _on_timer(self) -> None:
        if self._machine is not None:
            self._finish(self._machine, f"no answer in time at {self._machine.stage}")
        elif self._link is not None:
            self._link.abort()  # it does not answer QUIT

    def _finish(self, machine: ClientTransaction, lost: str = "") -> None:
        if lost:
            machine.lost(lost)
            self._drop()
        if machine.done and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- asyncio.Protocol ---

    def data_received(self, data: bytes) -> None:
        """Replies, or words that nobody asked for: then the session ends here."""
        machine = self._machine
        if machine is None or machine.done:
            if not self._quitting:
                self._drop()
            elif self._link is not None:
                self._link.close()
            return
        out = machine.receive(data, all_sent=self._all_sent)
        if machine.state is State.DONE:
            self._finish(machine)
            return
        if out:
            self._send(out)
        self._watch(machine)

    def eof_received(self) -> bool:
        """The peer has said all it will say."""
        self._alive = False
        if self._machine is not None:
            self._finish(self._machine, "the peer closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._alive = False
        self._timer.stop()
        self._link = None
        self._tls = None
        if self._machine is not None:
            self._finish(self._machine, f"the connection was lost{f' ({type(exc).__name__})' if exc else ''}")
        if not self._closed.done():
            self._closed.set_result(None)
            if self._ended is not None:
                self._ended()

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """It does again: every piece taken starts the deadline of the next."""
        self._paused = False
        self._pump()
        if self._machine is not None and not self._machine.done:
            self._watch(self._machine)
