import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address
from relay.core.envelope import Recipient
from relay.core.level import Level
from relay.core.outcome import PeerFeatures, Stage, Trouble
from relay.smtp.client import LEGAL, ClientTransaction, State
from relay.smtp.commands import look, stuff
from tests.support.net import transaction

PIPELINING = PeerFeatures(
    pipelining=True, eight_bit_mime=True, dsn=True, smtputf8=True, size=100_000, size_offered=True
)
PLAIN = PeerFeatures()
THREE = ("a@x.example", "b@x.example", "c@x.example")


class Script:
    """A peer that answers each command with what its script says, and writes down what it got."""

    def __init__(self, mail, rcpts, data, final, *, rset="250 2.0.0 ok"):
        self.answers = {"MAIL": [mail], "RCPT": list(rcpts), "DATA": [data], "RSET": [rset]}
        self.final = final
        self.commands = []
        self.content = None
        self.in_data = False
        self.buffer = b""

    def take(self, sent: bytes) -> bytes:
        self.buffer += sent
        out = b""
        while True:
            if self.in_data:
                whole = b"\r\n" + self.buffer
                end = whole.find(b"\r\n.\r\n")
                if end < 0:
                    return out
                self.content = whole[2 : end + 2].replace(b"\r\n.", b"\r\n") if end else b""
                if self.content.startswith(b"."):
                    self.content = self.content[1:]
                self.buffer = whole[end + 5 :]
                self.in_data = False
                out += self.final.encode() + b"\r\n"
                continue
            line, found, rest = self.buffer.partition(b"\r\n")
            if not found:
                return out
            self.buffer = rest
            self.commands.append(line.decode())
            answer = self.answers[line[:4].decode().upper()].pop(0)
            self.in_data = line.upper() == b"DATA" and answer.startswith("354")
            out += answer.encode() + b"\r\n"


def run(machine, peer, *, cut=None):
    """Let both talk until neither says more; ``cut``: bytes given to the machine at a time."""
    answer = peer.take(machine.start())
    while answer and not machine.done:
        size = cut or len(answer)
        sent = b""
        for start in range(0, len(answer), size):
            sent += machine.receive(answer[start : start + size])
        answer = peer.take(sent)
    return machine


def good(**more):
    return {
        "mail": "250 2.1.0 ok", "rcpts": ["250 2.1.5 ok"] * 3, "data": "354 go", "final": "250 2.0.0 taken as 1", **more
    }  # fmt: skip


@pytest.mark.parametrize("features", [PIPELINING, PLAIN])
@pytest.mark.parametrize("cut", [None, 1, 2, 7])
def test_all_recipients_delivered(features, cut):
    peer = Script(**good())
    machine = run(ClientTransaction(transaction(*THREE), features), peer, cut=cut)
    assert machine.done
    assert machine.reusable
    assert [result.delivered for result in machine.results] == [True] * 3
    assert peer.content == b"Subject: x\r\n\r\n.hello\r\n"
    assert peer.commands[1:4] == [f"RCPT TO:<{text}>" for text in THREE]


def test_pipelined_commands_leave_in_one_piece():
    first = ClientTransaction(transaction(*THREE), PIPELINING).start()
    assert first.count(b"\r\n") == 5
    assert first.endswith(b"DATA\r\n")
    assert ClientTransaction(transaction(*THREE), PLAIN).start() == b"MAIL FROM:<ehr@clinic.example>\r\n"


@pytest.mark.parametrize("features", [PIPELINING, PLAIN])
def test_recipients_are_refused_one_by_one(features):
    peer = Script(**good(rcpts=["550 5.1.1 unknown", "250 ok", "451 4.7.1 later"]))
    machine = run(ClientTransaction(transaction(*THREE), features, host="mx.x.example"), peer)
    first, second, third = machine.results
    assert (first.failure.reply.code, second.delivered, third.failure.reply.code) == (550, True, 451)
    assert first.failure.stage is Stage.RCPT
    assert first.failure.host == "mx.x.example"
    assert peer.content is not None
    assert machine.reusable


def test_a_lone_dot_is_sent_when_data_is_taken_with_no_recipient_left():
    peer = Script(**good(rcpts=["550 no"] * 3, final="554 5.5.1 no valid recipients"))
    machine = run(ClientTransaction(transaction(*THREE), PIPELINING), peer)
    assert peer.content == b""
    assert machine.reusable
    assert {result.failure.reply.code for result in machine.results} == {550}


@pytest.mark.parametrize("features", [PIPELINING, PLAIN])
def test_rset_follows_when_all_recipients_are_refused(features):
    peer = Script(**good(rcpts=["550 no"] * 3, data="554 5.5.1 no valid recipients"))
    machine = run(ClientTransaction(transaction(*THREE), features), peer)
    assert peer.commands[-1] == "RSET"
    assert machine.reusable
    assert peer.content is None


@pytest.mark.parametrize("features", [PIPELINING, PLAIN])
def test_a_refused_sender_is_the_reason_for_all(features):
    peer = Script(**good(mail="550 5.7.1 not you", rcpts=["503 5.5.1 no sender"] * 3, data="503 5.5.1 no sender"))
    machine = run(ClientTransaction(transaction(*THREE), features), peer)
    assert {(result.failure.stage, result.failure.reply.code) for result in machine.results} == {(Stage.MAIL, 550)}
    assert machine.reusable


def test_the_final_answer_counts_for_accepted_recipients_alone():
    peer = Script(**good(rcpts=["250 ok", "550 no", "250 ok"], final="554 5.6.0 spam"))
    machine = run(ClientTransaction(transaction(*THREE), PIPELINING), peer)
    assert [result.failure.reply.code for result in machine.results] == [554, 550, 554]
    assert [result.failure.stage for result in machine.results] == [Stage.FINAL, Stage.RCPT, Stage.FINAL]


@pytest.mark.parametrize("at", ["mail", "rcpts", "data", "final"])
@pytest.mark.parametrize("features", [PIPELINING, PLAIN])
def test_421_anywhere_ends_the_session_and_is_kept_as_the_answer(at, features):
    words = "421 4.3.2 going down"
    script = good(**{at: ["250 ok", words, "250 ok"] if at == "rcpts" else words})
    machine = run(ClientTransaction(transaction(*THREE), features), Script(**script))
    assert machine.done
    assert not machine.reusable
    assert machine.results[1].failure.reply.code == 421
    assert not any(result.delivered for result in machine.results)


@pytest.mark.parametrize(
    "garbage", ["hello", "99", "600 ok", "160 ok", "2x0 ok", "250-a\r\n251 b", "", "250ok", "\x00\x00\x00\x00"]
)
@pytest.mark.parametrize("at", ["mail", "data", "final"])
def test_what_is_not_smtp_is_a_breach_of_protocol(garbage, at):
    machine = run(ClientTransaction(transaction(*THREE), PIPELINING), Script(**good(**{at: garbage})))
    assert machine.done
    assert not machine.reusable
    assert {result.failure.trouble for result in machine.results} == {Trouble.PROTOCOL}


@pytest.mark.parametrize("size", [10_000, 200_000])
def test_endless_replies_are_bounded(size):
    machine = ClientTransaction(transaction(), PLAIN)
    machine.start()
    machine.receive(b"250-" + b"x" * size)
    assert machine.results[0].failure.trouble is Trouble.PROTOCOL
    machine = ClientTransaction(transaction(), PLAIN)
    machine.start()
    machine.receive(b"250-more\r\n" * 200)
    assert machine.results[0].failure.trouble is Trouble.PROTOCOL


def test_codes_that_disagree_with_the_enhanced_status_do_no_harm():
    peer = Script(**good(rcpts=["550 2.1.5 ok?", "250 5.1.1 no?", "250 ok"], final="250 4.0.0 hm"))
    machine = run(ClientTransaction(transaction(*THREE), PIPELINING), peer)
    first, second, third = machine.results
    assert first.failure.reply.enhanced is None
    assert first.failure.reply.text == "2.1.5 ok?"
    assert second.delivered
    assert third.delivered


@pytest.mark.parametrize("features", [PIPELINING, PLAIN])
def test_a_connection_lost_after_the_final_dot_is_ambiguous_and_before_it_is_not(features):
    for turns, expected in ((0, Trouble.NETWORK), (99, Trouble.AMBIGUOUS)):
        peer = Script(**good())
        machine = ClientTransaction(transaction(*THREE), features)
        sent = machine.start()
        for _ in range(turns):
            if machine.state is State.FINAL:
                break
            sent = machine.receive(peer.take(sent))
        machine.lost("gone")
        assert {result.failure.trouble for result in machine.results} == {expected}
        assert not machine.reusable


def test_results_known_before_a_loss_stay():
    machine = ClientTransaction(transaction(*THREE), PIPELINING)
    machine.start()
    machine.receive(b"250 ok\r\n550 5.1.1 no\r\n")
    machine.lost("gone")
    assert machine.results[0].failure.reply.code == 550
    assert machine.results[1].failure.trouble is Trouble.NETWORK


def test_a_peer_that_takes_the_message_before_its_end_is_not_believed():
    machine = ClientTransaction(transaction(), PIPELINING)
    machine.start()
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n")
    machine.receive(b"250 taken\r\n", all_sent=False)
    assert machine.results[0].failure.trouble is Trouble.PROTOCOL
    machine = ClientTransaction(transaction(), PIPELINING)
    machine.start()
    machine.receive(b"250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n")
    assert machine.results[0].failure.trouble is Trouble.PROTOCOL


def test_words_without_a_question_end_the_session():
    machine = ClientTransaction(transaction(), PLAIN)
    machine.start()
    assert machine.receive(b"250 ok\r\n250 ok\r\n") == b""
    assert machine.results[0].failure.trouble is Trouble.PROTOCOL
    machine = run(ClientTransaction(transaction(), PLAIN), Script(**good(final="250 ok\r\n250 and more")))
    assert machine.results[0].delivered
    assert not machine.reusable


@pytest.mark.parametrize(
    ("features", "more", "status"),
    [
        (PeerFeatures(size=10), {}, "5.3.4"),
        (PLAIN, {"smtputf8": True}, "5.6.7"),
        (PLAIN, {"content": "Subject: ü\r\n\r\n".encode()}, "5.6.3"),
        (PLAIN, {"require_tls": True}, "5.7.30"),
    ],
)
def test_what_the_peer_lacks_is_said_before_a_byte_is_sent(features, more, status):
    machine = ClientTransaction(transaction(**more), features)
    assert machine.start() == b""
    assert machine.done
    assert machine.reusable
    assert machine.results[0].failure.trouble is Trouble.UNSUPPORTED
    assert str(machine.results[0].failure.status) == status


def test_a_recipient_that_is_not_ascii_needs_smtputf8():
    machine = ClientTransaction(transaction("pät@x.example"), PLAIN)
    machine.start()
    assert str(machine.results[0].failure.status) == "5.6.7"
    first = ClientTransaction(transaction("pät@x.example"), PIPELINING).start().decode()
    assert "SMTPUTF8" in first.split("\r\n")[0]
    assert "RCPT TO:<pät@x.example>" in first


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"a\r\n\n.\r\n"])
def test_a_bare_line_end_never_goes_on_the_wire(content):
    machine = ClientTransaction(transaction(content=content), PIPELINING)
    assert machine.start() == b""
    assert machine.results[0].failure.trouble is Trouble.LOCAL


@pytest.mark.parametrize("field", ["envelope_id", "ret", "reverse_path_text"])
def test_a_control_character_never_becomes_a_command(field):
    machine = ClientTransaction(transaction_with(field, "x\r\nRCPT TO:<evil@x.example>"), PIPELINING)
    assert machine.start() == b""
    assert machine.results[0].failure.trouble is Trouble.LOCAL


def transaction_with(field, value):
    return replace(transaction(), **{field: value})


def test_parameters_are_used_where_the_peer_offers_them():
    base = transaction(content=b"x\r\n", body_8bit=True, envelope_id="id+2B", ret="HDRS")
    recipient = Recipient(
        address=Address.parse("a@x.example"), original="rfc822;b@y.example", notify=frozenset({"FAILURE", "DELAY"})
    )
    wanted = replace(base, recipients=((0, recipient),))
    lines = ClientTransaction(wanted, PIPELINING).start().decode().split("\r\n")
    assert lines[0] == "MAIL FROM:<ehr@clinic.example> SIZE=3 BODY=8BITMIME RET=HDRS ENVID=id+2B"
    assert lines[1] == "RCPT TO:<a@x.example> NOTIFY=DELAY,FAILURE ORCPT=rfc822;b@y.example"
    bare = ClientTransaction(wanted, PeerFeatures(pipelining=True)).start().decode().split("\r\n")
    assert bare[:2] == ["MAIL FROM:<ehr@clinic.example>", "RCPT TO:<a@x.example>"]


def test_the_longest_that_may_be_asked_goes_in_one_piece_and_line_by_line():
    """RFC 3461 section 5.4: 100 characters of ENVID, 500 of ORCPT, 28 of NOTIFY."""
    recipient = Recipient(
        address=Address.parse("a@x.example"), original="rfc822;" + "o" * 493,
        notify=frozenset({"SUCCESS", "FAILURE", "DELAY"}),
    )  # fmt: skip
    wanted = replace(transaction("a@x.example"), recipients=((0, recipient),), envelope_id="e" * 100, ret="FULL")
    mail = b"MAIL FROM:<ehr@clinic.example> RET=FULL ENVID=" + b"e" * 100 + b"\r\n"
    rcpt = b"RCPT TO:<a@x.example> NOTIFY=DELAY,FAILURE,SUCCESS ORCPT=rfc822;" + b"o" * 493 + b"\r\n"
    assert ClientTransaction(wanted, PeerFeatures(pipelining=True, dsn=True)).start() == mail + rcpt + b"DATA\r\n"
    machine = ClientTransaction(wanted, PeerFeatures(dsn=True))
    assert machine.start() == mail
    assert machine.receive(b"250 ok\r\n") == rcpt
    assert max(map(len, (mail, rcpt))) <= 1036


# --- properties ---

REPLIES = st.sampled_from(
    ["250 ok", "250-a\r\n250 b", "250 2.1.5 ok", "421 4.3.2 bye", "450 later", "451 4.7.1 grey", "452 4.5.3 many",
     "550 5.1.1 no", "552 5.2.2 full", "354 go", "334 what", "220 hm", "250 5.0.0 odd", "garbage", "999 x", "55"]
)  # fmt: skip


@given(
    mail=REPLIES, rcpts=st.lists(REPLIES, min_size=3, max_size=3), data=REPLIES, final=REPLIES, rset=REPLIES,
    pipelining=st.booleans(), cut=st.integers(1, 40),
)  # fmt: skip
def test_any_answers_give_one_result_each_however_they_are_cut(mail, rcpts, data, final, rset, pipelining, cut):
    features = PeerFeatures(pipelining=pipelining)
    whole_peer = Script(mail, rcpts, data, final, rset=rset)
    whole = run(ClientTransaction(transaction(*THREE), features), whole_peer)
    if not whole.done:
        whole.lost("gone")
    cut_peer = Script(mail, rcpts, data, final, rset=rset)
    pieces = run(ClientTransaction(transaction(*THREE), features), cut_peer, cut=cut)
    if not pieces.done:
        pieces.lost("gone")
    assert [result.number for result in whole.results] == [0, 1, 2]
    assert [outcome(result) for result in whole.results] == [outcome(result) for result in pieces.results]
    for number, result in enumerate(whole.results):
        if result.delivered:
            assert rcpts[number].startswith("25")
            assert final.startswith(("25", "220"))
            assert whole_peer.content == b"Subject: x\r\n\r\n.hello\r\n"


def outcome(result):
    failure = result.failure
    return (result.delivered, failure and failure.trouble, failure and failure.reply and failure.reply.code)


@given(st.binary(max_size=300), st.booleans(), st.integers(1, 20))
def test_no_bytes_of_a_peer_raise_or_deliver_without_a_final_answer(data, pipelining, cut):
    machine = ClientTransaction(transaction(*THREE), PeerFeatures(pipelining=pipelining))
    machine.start()
    for start in range(0, len(data), cut):
        machine.receive(data[start : start + cut])
    machine.lost("gone")
    assert len(machine.results) == 3
    assert not machine.reusable
    if b"354" not in data:
        assert not any(result.delivered for result in machine.results)


@given(st.lists(st.sampled_from([b".", b"..", b"", b"a", b".b", b"c.", b"x" * 100]), max_size=8), st.booleans())
def test_stuffing_is_undone_by_the_receiver(lines, ended):
    content = b"\r\n".join(lines) + (b"\r\n" if ended else b"")
    wire = stuff(content, look(content))
    assert wire.endswith(b".\r\n")
    got = [line[1:] if line.startswith(b".") else line for line in wire[: -len(b".\r\n")].split(b"\r\n")[:-1]]
    assert all(line != b"." for line in wire[: -len(b".\r\n")].split(b"\r\n"))
    expected = (content if content.endswith(b"\r\n") or not content else content + b"\r\n").split(b"\r\n")[:-1]
    assert got == expected


def test_every_state_of_the_table_can_end():
    for state, following in LEGAL.items():
        assert State.DONE in following or state is State.DONE
    reached = {State.START}
    for _ in range(len(State)):
        reached |= set(itertools.chain.from_iterable(LEGAL[state] for state in reached))
    assert reached == set(State)


def test_floor_is_no_business_of_the_machine():
    assert ClientTransaction(transaction(floor=Level.AUTHENTICATED), PIPELINING).start()
