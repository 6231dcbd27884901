"""Every dialog, against the machine cut in all manners and against a real listener."""

import asyncio
import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.demo.authority import Authority
from relay.intake.tls import server_context
from relay.smtp.server import ServerSession
from relay.smtp.server_events import Closed, Mail
from relay.smtp.server_limits import SessionLimits
from tests.support.dialogs import DIALOGS
from tests.support.intake import Taker, listening, options
from tests.support.loops import LOOPS
from tests.support.session import Driver

WAYS = {
    "whole": lambda data: [data],
    "octet by octet": lambda data: [data[at : at + 1] for at in range(len(data))],
    "line by line": lambda data: data.splitlines(keepends=True),
}
CUTTABLE = [dialog for dialog in DIALOGS if not dialog.whole_only]
IN_EVERY_WAY = pytest.mark.parametrize(
    ("dialog", "way"),
    [(dialog, way) for dialog in DIALOGS for way in WAYS if way == "whole" or not dialog.whole_only],
    ids=lambda value: getattr(value, "name", value),
)
BY_NAME = pytest.mark.parametrize("dialog", DIALOGS, ids=lambda dialog: dialog.name)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("ca"))
    issued = authority.issue("relay.example")
    return authority.root, server_context(issued.cert, issued.key)


def play(dialog, cut, trailing=b""):
    """Feed all that the client sends without waiting for anything; the replies of each stretch."""
    driver = Driver(dialog.limits)
    said = []
    for number, (sent, _) in enumerate(stretches := dialog.stretches()):
        if number:
            driver.session.tls_started()
        last = number == len(stretches) - 1
        for piece in cut(sent + (trailing if last else b"")):
            driver.feed(piece)
        said.append(driver.output())
    return driver, said


def test_there_are_many_dialogs():
    assert len(DIALOGS) >= 40


@IN_EVERY_WAY
def test_the_machine_says_what_the_dialog_says(dialog, way):
    driver, said = play(dialog, WAYS[way])
    assert said == [expected for _, expected in dialog.stretches()]
    assert driver.messages == dialog.messages
    assert isinstance(driver.events[-1], Closed) if dialog.closes else driver.session.state.name != "CLOSED"


@IN_EVERY_WAY
def test_what_follows_changes_nothing_before_it(dialog, way):
    driver, said = play(dialog, WAYS[way], trailing=b"NOOP\r\nNOO")
    expected = dialog.stretches()[-1][1]
    assert said[-1].startswith(expected)
    more = said[-1][len(expected) :]
    assert driver.messages == dialog.messages
    if dialog.closes:
        assert more == b""
    else:
        assert more.count(b"\r\n") == 1


@given(dialog=st.sampled_from(CUTTABLE), data=st.data())
def test_how_the_octets_are_cut_never_matters(dialog, data):
    def cut(sent):
        places = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)))
        return [sent[a:b] for a, b in zip([0, *places], [*places, len(sent)], strict=True)]

    driver, said = play(dialog, cut)
    whole, expected = play(dialog, WAYS["whole"])
    assert said == expected
    assert driver.events == whole.events


def test_no_octets_say_nothing_wherever_the_session_stands():
    session = ServerSession(SessionLimits(hostname="relay.example", starttls=True))
    for said in (None, b"EHLO ehr\r\n", b"MAIL FR", b"OM:<>\r\nRSET\r\n", b"STARTTLS\r\n"):
        for event in session.greet() if said is None else session.receive(said):
            if isinstance(event, Mail):
                session.reply()
        session.take_output()
        assert session.receive(b"") == []
        assert session.take_output() == b""
    assert session.state.name == "TLS"


@LOOPS
@BY_NAME
def test_a_listener_says_what_the_dialog_says(dialog, certificate, new_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(play_to_a_listener(dialog, *certificate))


async def play_to_a_listener(dialog, root, context):
    taker = Taker()
    tls = context if dialog.uses_tls else None
    async with listening(options(limits=dialog.limits), taker, tls=tls) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        for kind, octets in dialog.steps:
            if kind == "c":
                writer.write(octets)
                await writer.drain()
            elif kind == "s":
                assert await asyncio.wait_for(reader.readline(), 60) == octets
            elif kind == "t":
                await writer.start_tls(ssl.create_default_context(cafile=root), server_hostname="relay.example")
            else:
                assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
        await asyncio.wait_for(_closed(writer), 60)
    taken = [
        (
            str(envelope.reverse_path).encode() or b"<>",
            [str(recipient.address).encode() for recipient in envelope.recipients],
            content,
        )
        for _, envelope, content, _ in taker.taken
    ]
    assert taken == dialog.messages


async def _closed(writer):
    try:
        await writer.wait_closed()
    except (ConnectionError, ssl.SSLError):
        return
