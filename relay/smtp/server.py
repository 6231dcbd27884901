"""The server side of SMTP as a sans-io machine: octets in, events out; replies in, octets out (RFC 5321).

It knows the grammar, the order of commands and its own limits, and nothing of clients, policy or time. Whoever drives
it feeds it with :meth:`ServerSession.receive`, answers its questions with :meth:`ServerSession.reply`, and writes what
:meth:`ServerSession.take_output` gives; pipelined commands thus get their replies in one write (RFC 2920).
"""

from typing import ClassVar, Final

from relay.core.reply import Reply
from relay.smtp import server_replies as say
from relay.smtp.endofdata import BareNewlines
from relay.smtp.lines import LineReader, Overlong
from relay.smtp.sasl import Authentication
from relay.smtp.server_events import (
    AuthRequest,
    Closed,
    Event,
    Helo,
    Mail,
    MessageComplete,
    Question,
    Quit,
    Rcpt,
    Refused,
    StartTls,
    Turn,
)
from relay.smtp.server_limits import SessionLimits
from relay.smtp.server_state import COMMANDS, FOREIGN, IDLE_COMMANDS, IN_TRANSACTION, MOVES, State, out_of_place
from relay.smtp.server_transaction import OpenTransaction, Over
from relay.smtp.wire import CommandError, decode_line, neuter_helo, parse_mail, parse_rcpt

_SENDER_OK: Final = say.SENDER_OK.encode()
_RECIPIENT_OK: Final = say.RECIPIENT_OK.encode()
_GO_AHEAD: Final = say.GO_AHEAD.encode()
_TURN: Final = 32
"""Commands that came in one piece and are answered in one go: a message needs few, an attacker sends thousands."""


class ServerSession:
    """One SMTP connection's conversation.

    Attributes:
        state: where it stands.
        secure: whether the octets come through TLS.
        helo: what the peer called itself, neutered; empty before.
        extended: whether it said EHLO.
        max_size, max_recipients: may be lowered once the client is known.
        progress: counts complete lines and messages: a driver's clock for "it does something".
    """

    def __init__(self, limits: SessionLimits, *, secure: bool = False) -> None:
        self.limits = limits
        self.state = State.CONNECTED
        self.secure = secure
        self.helo = ""
        self.extended = False
        self.max_size = limits.max_size
        self.max_recipients = limits.max_recipients
        self.progress = 0
        self._input = LineReader()
        self._out: list[bytes] = []
        self._question: Question | None = None
        self._commands = self._messages = self._errors = self._in_turn = self._idle = 0
        self._auth = Authentication(limits)
        self._mail = OpenTransaction()

    # --- for the driver ----------------------------------------------------

    @property
    def question(self) -> Question | None:
        """The question that waits for :meth:`reply`."""
        return self._question

    @property
    def authenticated(self) -> bool:
        """Whether an AUTH succeeded."""
        return self._auth.authenticated

    @property
    def in_data(self) -> bool:
        """Whether a message is being read."""
        return self.state is State.DATA and self._question is None

    @property
    def held(self) -> int:
        """Octets of message and of unread input in memory."""
        return self._input.held + self._mail.held

    def greet(self, refusal: Reply | None = None) -> list[Event]:
        """Open the conversation with 220, or refuse it (421, 554)."""
        if refusal is not None:
            return self._close(refusal, "refused at connect")
        self._say(Reply.of(220, "", f"{self.limits.hostname} ESMTP"))
        return []

    def receive(self, data: bytes) -> list[Event]:
        """Take octets; return what happened. A question, if there is one, is the last event."""
        if self.state is State.CLOSED or not data:
            return []
        if self.state is State.TLS:
            return self._close(say.TLS_PIPELINED, "octets in the clear after STARTTLS")
        self._input.feed(data)
        return self._advance()

    def reply(self, reply: Reply | None = None) -> list[Event]:
        """Answer the question; ``None`` grants MAIL, RCPT, AUTH. Return what the input that waited leads to.

        Raises:
            RuntimeError: nothing was asked.
        """
        question, self._question = self._question, None
        if question is None:
            raise RuntimeError("the session asked nothing")
        events: list[Event] = []
        self._answer(question, reply, events)
        events += self._advance()
        return events

    def refuse_data(self, reply: Reply) -> None:
        """Refuse the message that is being read: what comes is thrown away, the reply is given at its end."""
        if self._mail.data is not None:
            self._mail.data.refuse(reply)

    def close(self, reply: Reply | None, reason: str) -> list[Event]:
        """End the session from outside (421 for a drain or a deadline; ``None``: without a word)."""
        return [] if self.state is State.CLOSED else self._close(reply, reason)

    def tls_started(self) -> None:
        """TLS is up: forget all that was said in the clear (RFC 3207 section 4.2)."""
        self.state, self.secure = State.CONNECTED, True
        self.helo, self.extended, self._auth = "", False, Authentication(self.limits)
        self._input.clear()
        self._forget()

    def take_output(self) -> bytes:
        """The octets to write now."""
        output = b"".join(self._out)
        self._out.clear()
        return output

    # --- input -------------------------------------------------------------

    def _advance(self) -> list[Event]:
        events: list[Event] = []
        while self._question is None and self.state is not State.CLOSED and self.state is not State.TLS:
            if self._in_turn >= _TURN:
                self._in_turn = 0
                self._ask(Turn(), events)
            elif not self._input.held or not (
                self._read_data(events) if self.state is State.DATA else self._read_line(events)
            ):
                self._in_turn = 0
                break
        return events

    def _read_line(self, events: list[Event]) -> bool:
        limits = self.limits
        line = self._input.next(limits.max_auth_line if self.state is State.AUTH else limits.max_command)
        if line is None:
            return False
        self.progress += 1
        self._commands += 1
        self._in_turn += 1
        if line is Overlong.ENDLESS:
            events += self._close(say.LONG_COMMAND, "an endless command line")
        elif self._commands > limits.max_commands:
            events += self._close(say.TOO_MANY_COMMANDS, "too many commands")
        elif line is Overlong.LINE:
            long = say.LONG_AUTH_LINE if self.state is State.AUTH else say.LONG_COMMAND
            self._leave_auth()
            self._refuse("", long, events)
        elif not line.endswith(b"\r\n") and limits.bare_newlines is BareNewlines.REFUSE:
            self._leave_auth()
            self._refuse("", say.BARE_NEWLINE, events)
        else:
            self._line(line.removesuffix(b"\n").removesuffix(b"\r"), events)
        return True

    def _line(self, line: bytes, events: list[Event]) -> None:
        verb = "AUTH" if self.state is State.AUTH else ""
        try:
            text = decode_line(line)
            if self.state is State.AUTH:
                self._converse(self._auth.proceed(text), events)
            else:
                verb = text.partition(" ")[0].upper()
                self._command(verb, text[len(verb) :].strip(" \t"), events)
        except CommandError as error:
            self._leave_auth()
            self._refuse(verb, error.reply, events)

    def _read_data(self, events: list[Event]) -> bool:
        reader = self._mail.data
        if reader is None:
            raise RuntimeError("reading data without a reader")
        rest = reader.feed(self._input.take())
        if reader.hopeless:
            events += self._close(say.TOO_BIG, "a message far over the limit")
            return False
        if rest is None:
            return False
        self._input.feed(rest)
        self.progress += 1
        result = reader.result()
        self._mail.data = None
        if isinstance(result, Reply):
            self._forget()
            self._refuse("DATA", result, events)
            return True
        self._ask(MessageComplete(envelope=self._mail.envelope(), content=result), events)
        return True

    # --- commands ----------------------------------------------------------

    def _command(self, verb: str, argument: str, events: list[Event]) -> None:
        locked = self.limits.require_tls and not self.secure
        refusal = out_of_place(self.state, verb, argument, locked=locked)
        if refusal is not None:
            self._refuse(verb, refusal, events)
            return
        if verb in FOREIGN:
            events.append(Refused(verb=verb, reply=say.FOREIGN))
            events += self._close(say.FOREIGN, "another protocol")
            return
        if verb in IDLE_COMMANDS:
            self._idle += 1
            if self._idle > self.limits.max_idle_commands:
                events += self._close(say.TOO_MANY_IDLE, "too many commands without a message")
                return
        if verb in say.PLAIN_ANSWERS:
            self._say(say.PLAIN_ANSWERS[verb])
            return
        getattr(self, self._HANDLERS[verb])(argument, events)

    def _hello(self, verb: str, argument: str, events: list[Event]) -> bool:
        if not argument:
            self._refuse(verb, say.NAME_WANTED, events)
            return False
        self._forget()
        self.helo, self.extended = neuter_helo(argument), verb == "EHLO"
        self.state = MOVES[self.state][verb]
        events.append(Helo(name=self.helo, extended=self.extended))
        return True

    def _do_helo(self, argument: str, events: list[Event]) -> None:
        if self._hello("HELO", argument, events):
            self._say(Reply.of(250, "", self.limits.hostname))

    def _do_ehlo(self, argument: str, events: list[Event]) -> None:
        if self._hello("EHLO", argument, events):
            auth = self._auth.offers(secure=self.secure)
            self._say(say.ehlo(self.limits, auth, max_size=self.max_size, secure=self.secure))

    def _do_mail(self, argument: str, events: list[Event]) -> None:
        mail = parse_mail(argument, secure=self.secure)
        if mail.size > self.max_size:
            self._refuse("MAIL", say.TOO_BIG, events)
        else:
            self._ask(mail, events)

    def _do_rcpt(self, argument: str, events: list[Event]) -> None:
        recipient = parse_rcpt(argument, smtputf8=self._mail.smtputf8, hostname=self.limits.hostname)
        count = len(self._mail.recipients)
        if count < self.max_recipients:
            self._ask(Rcpt(recipient=recipient, count=count), events)
        elif (over := self._mail.one_over()) is Over.AGAIN:
            self._say(say.TOO_MANY_RECIPIENTS)
        else:
            self._refuse("RCPT", say.TOO_MANY_RECIPIENTS, events, counts=over is Over.ENDLESS)

    def _do_data(self, argument: str, events: list[Event]) -> None:  # noqa: ARG002 - one signature for all commands
        self._mail.begin_data(self.limits, self.max_size)
        self.state = MOVES[self.state]["DATA"]
        self._out.append(_GO_AHEAD)

    def _do_rset(self, argument: str, events: list[Event]) -> None:  # noqa: ARG002
        self.state = MOVES[self.state]["RSET"]
        self._forget()
        self._say(say.RESET)

    def _do_vrfy(self, argument: str, events: list[Event]) -> None:
        if argument:
            self._say(say.CANNOT_VERIFY)
        else:
            self._refuse("VRFY", Reply.of(501, "5.5.4", "Syntax: VRFY address"), events)

    def _do_expn(self, argument: str, events: list[Event]) -> None:  # noqa: ARG002
        self._refuse("EXPN", say.NO_LISTS, events)

    def _do_quit(self, argument: str, events: list[Event]) -> None:  # noqa: ARG002
        events.append(Quit())
        events += self._close(say.BYE, "quit")

    def _do_starttls(self, argument: str, events: list[Event]) -> None:  # noqa: ARG002
        if self.secure:
            self._refuse("STARTTLS", say.TLS_ALREADY, events)
        elif not self.limits.starttls:
            self._refuse("STARTTLS", say.TLS_UNOFFERED, events)
        elif self._input.held:
            # Whoever sent this in one piece, perhaps a man in the middle, must not have it obeyed inside TLS
            # (CVE-2011-0411).
            events.append(Refused(verb="STARTTLS", reply=say.TLS_PIPELINED))
            events += self._close(say.TLS_PIPELINED, "octets in the clear after STARTTLS")
        else:
            self.state = MOVES[self.state]["STARTTLS"]
            self._say(say.TLS_READY)
            events.append(StartTls())

    # --- AUTH --------------------------------------------------------------

    def _do_auth(self, argument: str, events: list[Event]) -> None:
        self._converse(self._auth.begin(argument, secure=self.secure), events)

    def _converse(self, step: Reply | AuthRequest, events: list[Event]) -> None:
        self.state = State.AUTH
        if isinstance(step, Reply):
            self._say(step)
        else:
            self._ask(step, events)

    def _leave_auth(self) -> None:
        self._auth.leave()
        if self.state is State.AUTH:
            self.state = State.GREETED

    # --- answers -----------------------------------------------------------

    def _answer(self, question: Question, reply: Reply | None, events: list[Event]) -> None:
        granted = reply is None or reply.is_positive
        if isinstance(question, Mail):
            if granted:
                self._mail.sender, self.state = question, MOVES[self.state]["MAIL"]
            elif reply is not None and reply.is_permanent and self._is_one_too_many(events):
                return  # whoever may not send at all could else ask on without an end
            self._out.append(_SENDER_OK if reply is None else reply.encode())
        elif isinstance(question, Rcpt):
            if granted:
                self._mail.recipients.append(question.recipient)
                self.state = MOVES[self.state]["RCPT"]
            self._out.append(_RECIPIENT_OK if reply is None else reply.encode())
        elif isinstance(question, MessageComplete):
            self._forget()
            self._idle = 0
            self._say(reply or say.QUEUED)
            self._messages += 1
            if self._messages >= self.limits.max_messages:
                events += self._close(say.TOO_MANY_MESSAGES, "enough messages for one session")
        elif isinstance(question, Turn):
            return
        else:
            self._answer_auth(reply or say.AUTH_OK, events)
        if reply is not None and reply.code == 421:
            events += self._close(None, "421 was answered")

    def _answer_auth(self, reply: Reply, events: list[Event]) -> None:
        self._leave_auth()
        self._say(reply)
        if self._auth.settle(success=reply.is_positive):
            events += self._close(say.TOO_MANY_FAILURES, "too many failed authentications")

    # --- the rest ----------------------------------------------------------

    def _ask(self, question: Question, events: list[Event]) -> None:
        self._question = question
        events.append(question)

    def _say(self, reply: Reply) -> None:
        self._out.append(reply.encode())

    def _refuse(self, verb: str, reply: Reply, events: list[Event], *, counts: bool = True) -> None:
        events.append(Refused(verb=verb if verb in COMMANDS else "", reply=reply))
        if not (counts and self._is_one_too_many(events)):
            self._say(reply)

    def _is_one_too_many(self, events: list[Event]) -> bool:
        self._errors += 1
        if self._errors < self.limits.max_errors:
            return False
        events += self._close(say.TOO_MANY_ERRORS, "too many errors")
        return True

    def _forget(self) -> None:
        self._mail.clear()
        if self.state in IN_TRANSACTION:
            self.state = State.GREETED

    def _close(self, reply: Reply | None, reason: str) -> list[Event]:
        if reply is not None:
            self._say(reply)
        self._forget()
        self.state, self._question = State.CLOSED, None
        self._input.clear()
        return [Closed(reason=reason)]

    _HANDLERS: ClassVar[dict[str, str]] = {verb: f"_do_{verb.lower()}" for verb in COMMANDS - say.PLAIN_ANSWERS.keys()}
