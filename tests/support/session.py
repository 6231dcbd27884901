"""Drives a session machine without a socket, with the answers that the listener of the tests gives."""

from relay.core.reply import Reply
from relay.intake import replies as say
from relay.smtp.server import ServerSession
from relay.smtp.server_events import AuthRequest, Mail, MessageComplete, Rcpt, Turn
from tests.support.intake import SECRET, client

QUEUED = Reply.of(250, "2.0.0", "Ok: queued as TEST")


class Driver:
    """Feeds a session and answers its questions at once. ``events`` has all that it reported."""

    def __init__(self, limits):
        self.session = ServerSession(limits)
        self.events = []
        self.messages = []
        self._client = client()
        self._drive(self.session.greet())

    def feed(self, data):
        self._drive(self.session.receive(data))

    def output(self):
        return self.session.take_output()

    def _drive(self, events):
        while events:
            self.events += events
            questions = [
                event for event in events if isinstance(event, AuthRequest | Mail | Rcpt | MessageComplete | Turn)
            ]
            assert questions in ([], events[-1:]), "a question is the last event"
            events = self.session.reply(self._answer(questions[0])) if questions else []

    def _answer(self, question):
        if isinstance(question, AuthRequest):
            good = (question.identity, question.password) == ("ehr", SECRET)
            return None if good else say.AUTH_FAILED
        if isinstance(question, Mail):
            if self.session.limits.auth and not self.session.authenticated:
                return say.AUTH_REQUIRED
            return None if self._client.may_send(question.reverse_path) else say.SENDER_REFUSED
        if isinstance(question, MessageComplete):
            envelope = question.envelope
            recipients = [str(recipient.address).encode() for recipient in envelope.recipients]
            self.messages.append((str(envelope.reverse_path).encode() or b"<>", recipients, question.content))
            return QUEUED
        return None
