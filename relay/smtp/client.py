"""One client transaction as a machine without sockets: bytes in, bytes out, a result for each recipient.

The machine writes MAIL, the RCPTs and DATA (in one piece where the peer offers PIPELINING, RFC 2920), reads the replies
however they are cut, and ends with one result a recipient. It never raises for what a peer does.

The caller sends what :meth:`ClientTransaction.start` and :meth:`ClientTransaction.receive` return, watches the deadline
of :attr:`ClientTransaction.stage` (RFC 5321 section 4.5.3.2), and tells of an end of the connection with
:meth:`ClientTransaction.lost`.
"""

from dataclasses import replace
from enum import Enum
from typing import Final

from relay.core.outcome import Failure, PeerFeatures, RecipientResult, Stage, Transaction, Trouble
from relay.core.reply import Reply
from relay.smtp.commands import encode, look, mail_line, missing, rcpt_line, stuff
from relay.smtp.replies import DEFAULT_LIMITS, ReplyError, ReplyLimits, ReplyReader

_CLOSING: Final = 421  # "service not available, closing transmission channel": lawful at any moment, RFC 5321 3.8
_START_INPUT: Final = 354


class State(Enum):
    """What the machine waits for."""

    START = "start"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    FINAL = "final"
    EMPTY = "empty"
    """The reply to a lone dot, sent because DATA was taken with no recipient left (RFC 2920 section 3.1)."""
    RSET = "rset"
    DONE = "done"


FENCED: Final = "the lease on the copy ended before the final dot"
"""Why a transaction was broken off although the peer did nothing wrong."""
LEGAL: Final[dict[State, frozenset[State]]] = {
    State.START: frozenset({State.MAIL, State.DONE}),
    State.MAIL: frozenset({State.RCPT, State.DONE}),
    State.RCPT: frozenset({State.RCPT, State.DATA, State.RSET, State.DONE}),
    State.DATA: frozenset({State.FINAL, State.EMPTY, State.RSET, State.DONE}),
    State.FINAL: frozenset({State.DONE}),
    State.EMPTY: frozenset({State.DONE}),
    State.RSET: frozenset({State.DONE}),
    State.DONE: frozenset(),
}
"""Every move that the machine may make; ``_move`` makes no other."""

_STAGES: Final = {
    State.START: Stage.MAIL,
    State.MAIL: Stage.MAIL,
    State.RCPT: Stage.RCPT,
    State.DATA: Stage.DATA,
    State.FINAL: Stage.FINAL,
    State.EMPTY: Stage.FINAL,
    State.RSET: Stage.RCPT,
    State.DONE: Stage.FINAL,
}


class ClientTransaction:
    """The machine. ``results`` and ``reusable`` hold once ``done``."""

    __slots__ = (
        "_accepted", "_features", "_found", "_host", "_lines", "_mail_refused", "_next", "_reader", "_results",
        "_reusable", "_state", "_transaction",
    )  # fmt: skip

    def __init__(
        self,
        transaction: Transaction,
        features: PeerFeatures,
        *,
        host: str = "",
        limits: ReplyLimits = DEFAULT_LIMITS,
    ) -> None:
        self._transaction = transaction
        self._host = host
        self._features = features
        self._reader = ReplyReader(limits)
        self._state = State.START
        self._results: dict[int, RecipientResult] = {}
        self._accepted: list[int] = []
        self._found = self._next = 0
        self._lines: list[str] = []
        self._mail_refused = False
        self._reusable = True

    # --- what the caller sees ---

    @property
    def state(self) -> State:
        """What it waits for."""
        return self._state

    @property
    def stage(self) -> Stage:
        """The phase whose deadline runs."""
        return _STAGES[self._state]

    @property
    def done(self) -> bool:
        """Whether every recipient has its result and nothing more is to be sent or read."""
        return self._state is State.DONE

    @property
    def reusable(self) -> bool:
        """Whether the connection may carry another transaction."""
        return self._reusable

    @property
    def may_end(self) -> bool:
        """Whether the last bytes may still be sent: whether the copy is certain to be this sender's own."""
        fence = self._transaction.fence
        return fence is None or fence()

    @property
    def results(self) -> tuple[RecipientResult, ...]:
        """One result a recipient, in the transaction's order."""
        return tuple(self._results[number] for number, _ in self._transaction.recipients)

    def start(self) -> bytes:
        """The first bytes to send; empty, and ``done``, when the peer cannot take this message."""
        found = self._found = look(self._transaction.content)
        failure = missing(self._transaction, self._features, found)
        if failure is not None:
            return self._give_up(failure, reusable=True)
        lines = [mail_line(self._transaction, self._features, found)]
        lines += [rcpt_line(recipient, self._features) for _, recipient in self._transaction.recipients]
        lines.append("DATA")
        wire = encode(lines)
        if wire is None:
            return self._give_up(
                self._failure(Trouble.LOCAL, Stage.MAIL, "an address or parameter holds a control character")
            )
        self._move(State.MAIL)
        if self._features.pipelining:
            return wire
        self._lines = lines
        return self._command(0)

    def receive(self, data: bytes, *, all_sent: bool = True) -> bytes:
        """Take bytes from the peer; return bytes to send.

        ``all_sent`` says whether everything returned before is on its way: a peer that takes a message before it has
        seen the final dot is not believed.
        """
        if self.done:
            self._reusable = False  # it speaks without being asked: what it says next cannot be told apart
            return b""
        self._reader.feed(data)
        try:
            return self._answer_replies(all_sent=all_sent)
        except ReplyError as error:
            return self._give_up(self._failure(Trouble.PROTOCOL, self.stage, str(error)))

    def lost(self, detail: str) -> None:
        """The connection ended or a deadline passed: what has no result yet is retried, and said to be ambiguous.

        After the final dot the peer may have taken the message (RFC 5321 section 4.5.3.2.6, RFC 1047).
        """
        if self.done:
            self._reusable = False
            return
        trouble = Trouble.AMBIGUOUS if self._state is State.FINAL else Trouble.NETWORK
        self._give_up(self._failure(trouble, self.stage, detail))

    # --- moves ---

    def _move(self, state: State) -> None:
        if state not in LEGAL[self._state]:
            raise AssertionError(f"no move from {self._state} to {state}")
        self._state = state

    def _answer_replies(self, *, all_sent: bool) -> bytes:
        out = b""
        while (reply := self._reader.take()) is not None:
            if out and reply.code != _CLOSING:
                raise ReplyError("the peer answered before it was asked")
            out += self._reply(reply, all_sent=all_sent and not out)
            if self._state is State.DONE:
                self._reusable = self._reusable and not self._reader.pending
                return b""
        return out

    def _command(self, index: int) -> bytes:
        return (self._lines[index] + "\r\n").encode("utf-8", "surrogateescape")

    def _give_up(self, failure: Failure, *, reusable: bool = False) -> bytes:
        """End with this failure for every recipient that has no result."""
        self._settle_rest(failure)
        self._reusable = reusable
        self._move(State.DONE)
        return b""

    def _settle_rest(self, failure: Failure) -> None:
        if not failure.host:
            failure = replace(failure, host=self._host)
        for number, _ in self._transaction.recipients:
            self._results.setdefault(number, RecipientResult(number=number, failure=failure))

    def _reply(self, reply: Reply, *, all_sent: bool) -> bytes:
        if reply.code == _CLOSING and self._state not in {State.EMPTY, State.RSET}:
            return self._give_up(self._refused(reply, self.stage))
        match self._state:
            case State.MAIL:
                return self._on_mail(reply)
            case State.RCPT:
                return self._on_rcpt(reply)
            case State.DATA:
                return self._on_data(reply)
            case State.FINAL:
                return self._on_final(reply, all_sent=all_sent)
            case _:
                return self._on_reset(reply)

    def _on_mail(self, reply: Reply) -> bytes:
        self._expect_no_more_input(reply)
        if not reply.is_positive:
            failure = self._refused(reply, Stage.MAIL)
            if not self._features.pipelining:
                return self._give_up(failure, reusable=True)
            self._mail_refused = True
            self._settle_rest(failure)
        self._move(State.RCPT)
        return b"" if self._features.pipelining else self._command(1)

    def _on_rcpt(self, reply: Reply) -> bytes:
        self._expect_no_more_input(reply)
        number = self._transaction.recipients[self._next][0]
        if reply.is_positive and not self._mail_refused:
            self._accepted.append(number)
        elif not reply.is_positive:
            self._results.setdefault(number, RecipientResult(number=number, failure=self._refused(reply, Stage.RCPT)))
        self._next += 1
        if self._next < len(self._transaction.recipients):
            self._move(State.RCPT)
            return b"" if self._features.pipelining else self._command(self._next + 1)
        if self._features.pipelining:
            self._move(State.DATA)
            return b""
        if not self._accepted:
            self._move(State.RSET)
            return b"RSET\r\n"
        self._move(State.DATA)
        return b"DATA\r\n"

    def _on_data(self, reply: Reply) -> bytes:
        if reply.code == _START_INPUT:
            if not self._accepted:
                self._move(State.EMPTY)
                return b".\r\n"
            if not self.may_end:
                return self._give_up(self._failure(Trouble.LOCAL, Stage.DATA, FENCED))
            self._move(State.FINAL)
            return stuff(self._transaction.content, self._found)
        if reply.code < 400:
            raise ReplyError("the answer to DATA is neither 354 nor a refusal")
        self._settle_rest(self._refused(reply, Stage.DATA))
        self._move(State.RSET)
        return b"RSET\r\n"

    def _on_final(self, reply: Reply, *, all_sent: bool) -> bytes:
        self._expect_no_more_input(reply)
        if reply.is_positive and not all_sent:
            raise ReplyError("the peer took the message before its end")
        for number in self._accepted:
            result = (
                RecipientResult(number=number, reply=reply)
                if reply.is_positive
                else RecipientResult(number=number, failure=self._refused(reply, Stage.FINAL))
            )
            self._results.setdefault(number, result)
        self._reusable = all_sent
        self._move(State.DONE)
        return b""

    def _on_reset(self, reply: Reply) -> bytes:
        """The answer to RSET, or to the lone dot: all results are known; it only says whether to go on."""
        self._reusable = reply.code != _CLOSING and (reply.is_positive or self._state is State.EMPTY)
        self._move(State.DONE)
        return b""

    @staticmethod
    def _expect_no_more_input(reply: Reply) -> None:
        if 300 <= reply.code < 400:
            raise ReplyError("the peer asks for input where none belongs")

    def _failure(self, trouble: Trouble, stage: Stage, detail: str) -> Failure:
        return Failure(trouble=trouble, stage=stage, detail=detail, host=self._host)

    def _refused(self, reply: Reply, stage: Stage) -> Failure:
        return Failure(
            trouble=Trouble.REPLY,
            stage=stage,
            reply=reply,
            detail=f"{stage} was answered {reply.code}",
            host=self._host,
        )
