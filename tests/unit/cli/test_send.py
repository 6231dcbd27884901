"""``postern send`` against a mail server: what it prints, and its exit status."""

import asyncio

import pytest
from click.testing import CliRunner

from relay.cli import main
from relay.demo.behaviour import PeerBehaviour
from relay.demo.peer import Peer

MESSAGE = b"Subject: hello\n\n.first line\nlast line\n"


async def send(port, *arguments, message=MESSAGE, host="127.0.0.1"):
    runner = CliRunner()
    call = ["send", "-", "--from", "ehr@clinic.example", "--server", f"{host}:{port}", *arguments]
    done = await asyncio.to_thread(runner.invoke, main, call, input=message)
    assert "Traceback" not in done.output + done.stderr
    return done


async def test_it_sends_and_prints_the_answer():
    async with Peer(PeerBehaviour()) as peer:
        done = await send(peer.port, "--to", "pat@mail.example", "--to", "sam@mail.example")
        assert done.exit_code == 0, done.stderr
        (message,) = peer.messages
    assert message.content.endswith(b"\r\n.first line\r\nlast line\r\n")
    assert done.stdout.strip()


async def test_the_null_sender_can_be_given():
    async with Peer(PeerBehaviour()) as peer:
        done = await send(peer.port, "--from", "<>", "--to", "pat@mail.example")
        assert done.exit_code == 0, done.stderr
        assert str(peer.messages[0].sender) in ("", "<>")


async def test_over_starttls_with_the_root_given(authority):
    certificate = authority.issue("localhost")
    async with Peer(PeerBehaviour(certificate=certificate)) as peer:
        done = await send(
            peer.port, "--to", "pat@mail.example", "--tls", "starttls", "--ca", str(authority.root), host="localhost"
        )
        assert done.exit_code == 0, done.stderr
        unknown = await send(peer.port, "--to", "pat@mail.example", "--tls", "starttls", host="localhost")
        assert unknown.exit_code == 1
        assert "certificate" in unknown.stderr.lower()


async def test_nobody_there_is_one_clear_error():
    async with Peer(PeerBehaviour()) as peer:
        port = peer.port
    done = await send(port, "--to", "pat@mail.example")
    assert done.exit_code == 1
    assert f"127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize("server", ["nowhere", "127.0.0.1:", ":25", "127.0.0.1:99999", "127.0.0.1:0"])
def test_a_server_that_cannot_be_is_one_clear_error(server):
    done = CliRunner().invoke(main, ["send", "-", "--from", "a@b.example", "--to", "c@d.example", "--server", server])
    assert done.exit_code == 2
    assert "HOST:PORT" in done.stderr


def test_a_root_that_is_none_is_one_clear_error(tmp_path):
    (tmp_path / "root.pem").write_text("not a certificate")
    call = ["send", "-", "--from", "a@b.example", "--to", "c@d.example", "--ca", str(tmp_path / "root.pem")]
    done = CliRunner().invoke(main, call)
    assert done.exit_code == 2
    assert "root.pem" in done.stderr


async def test_a_secret_that_cannot_be_read_is_one_clear_error(tmp_path):
    done = await send(9, "--to", "c@d.example", "--user", "ehr", "--password-file", str(tmp_path))
    assert done.exit_code == 2
    assert "password-file" in done.stderr


async def test_a_refused_recipient_is_named_and_the_others_are_served():
    behaviour = PeerBehaviour(recipients={"sam@mail.example": "550 5.1.1 No such user"})
    async with Peer(behaviour) as peer:
        done = await send(peer.port, "--to", "pat@mail.example", "--to", "sam@mail.example")
        assert done.exit_code == 1
        assert "sam@mail.example: 550 5.1.1 No such user" in done.stderr
        assert peer.messages[0].recipients == ("pat@mail.example",)
        done = await send(peer.port, "--to", "sam@mail.example")
    assert done.exit_code == 1
    assert "sam@mail.example: 550 5.1.1 No such user" in done.stderr


async def test_an_address_the_server_cannot_take_is_one_clear_error():
    async with Peer(PeerBehaviour(keywords=("8BITMIME",))) as peer:
        done = await send(peer.port, "--to", "müller@mail.example")
    assert done.exit_code == 1
    assert "SMTPUTF8" in done.stderr
