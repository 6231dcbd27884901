"""How long a session may take for its next step, by a clock that the test moves."""

from relay.intake.deadline import SessionDeadline
from relay.intake.listener import ListenerOptions
from relay.smtp.server import ServerSession
from relay.smtp.server_limits import SessionLimits

BEGIN = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
OPTIONS = ListenerOptions(
    name="relay",
    address="127.0.0.1",
    port=0,
    limits=SessionLimits(hostname="mx.example"),
    data_timeout=100.0,
    data_idle_timeout=60.0,
)


class Loop:
    """What a deadline asks of an event loop."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def time(self):
        return self.now

    def call_at(self, at, call):
        self.timers.append((at, call))
        return self

    def cancel(self):
        self.timers.clear()

    def pass_until(self, end):
        while due := [timer for timer in self.timers if timer[0] <= end]:
            timer = min(due, key=lambda one: one[0])
            self.timers.remove(timer)
            self.now = timer[0]
            timer[1]()
        self.now = end


class Peer:
    """A session with its deadline; every question is granted at once."""

    def __init__(self):
        self.loop = Loop()
        self.expired = []
        self.session = ServerSession(OPTIONS.limits)
        self.deadline = SessionDeadline(self.loop, lambda: self.expired.append(self.loop.now))
        self.session.greet()
        self.says(b"EHLO ehr\r\n" + BEGIN)

    def says(self, octets):
        events = self.session.receive(octets)
        while self.session.question is not None:
            events = self.session.reply()
        assert not any(type(event).__name__ == "Closed" for event in events)
        self.deadline.follow(self.session, OPTIONS)


def test_a_message_that_drips_on_and_on_ends_all_the_same():
    peer = Peer()
    for at in range(50, 400, 50):
        peer.loop.pass_until(at)
        if not peer.expired:
            peer.says(b"a line\r\n")
    assert peer.expired[0] == 100.0


def test_each_of_many_messages_in_one_breath_has_its_own_time():
    peer = Peer()
    for at in range(50, 1000, 50):
        peer.loop.pass_until(at)
        assert peer.session.in_data
        peer.says(b"the end of one\r\n.\r\n" + BEGIN)
    assert peer.expired == []
