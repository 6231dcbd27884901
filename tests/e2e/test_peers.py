"""Real programs at both ends: who hands mail in, who takes it, and who verifies what was signed."""

import asyncio
import contextlib
import smtplib
import ssl
import subprocess
from email import message_from_bytes
from email.policy import SMTP

import dkim as dkimpy
import pytest

from relay.config.load import load
from relay.config.signing_keys import load_signing_keys
from relay.demo.ports import free_port
from relay.protect.dkim import record_text
from tests.support.peers import Postfix, opendkim_says, require
from tests.support.system import audit, domain, system

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]

SENDER = "ehr@clinic.example"
VERIFIED = """\
policy: verified
rules:
  - id: all
    deliver: { methods: [tls], tls: verified }
"""
ODD = (
    "From: =?utf-8?Q?Praxis_Gr=C3=BCn?= <ehr@clinic.example>\r\n"
    "To: pat@postfix.example\r\nSubject: =?utf-8?B?U2Now7ZuZSBHcsO8w59l?=\r\nX-Long: {long}\r\n"
    "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ".a line that begins with a dot\r\n..two\r\n.\tand a tab \r\n\r\nGrüße, trailing spaces   \r\n{long}\r\n\r\n\r\n"
).format(long="x" * 70 + " " + "y" * 500)


async def run(*command):
    """Run a program to its end; what it printed.

    Raises:
        AssertionError: it failed.
    """
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextlib.asynccontextmanager
async def everything(tmp_path):
    """A site that signs twice, a Postfix that serves ``postfix.example``, and ``mail.example``."""
    require("postfix")
    async with system(tmp_path, domain("mail.example"), policy=VERIFIED, start=False, dkim=("rsa", "ed25519")) as (
        site,
        internet,
    ):
        certificate = site.authority.issue("mx.postfix.example")
        internet.dns.set("postfix.example", {"MX": ["10 mx.postfix.example."]})
        internet.dns.set("mx.postfix.example", {"A": ["127.0.2.1"]})
        async with Postfix(
            address="127.0.2.1", port=internet.port, domain="postfix.example", certificate=certificate
        ) as postfix:
            await site.start()
            yield site, internet, postfix


def records(site):
    """The DKIM records of a site, by name."""
    return {key.record_name: record_text(key) for key in load_signing_keys(load(site.config).dkim.dir)}


def signed_part(arrived):
    """A message from its first signature on: Postfix puts its own fields before it."""
    return arrived[arrived.index(b"DKIM-Signature:") :]


def submission(site):
    context = ssl.create_default_context(cafile=str(site.authority.root))
    client = smtplib.SMTP(*site.submission, timeout=60)
    client._host = site.options.hostname  # the name that its certificate is for
    client.starttls(context=context)
    client.login("ehr", site.secret)
    return client


def send_with_smtplib(site):
    with submission(site) as client:
        assert client.sendmail(SENDER, ["pat@postfix.example"], ODD.encode(), ["BODY=8BITMIME"]) == {}
        message = message_from_bytes(ODD.encode(), policy=SMTP)
        refused = client.send_message(message, SENDER, ["sam@postfix.example", "lee@postfix.example"])
        assert refused == {}
        with pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("someone@stranger.example", ["pat@postfix.example"], b"Subject: x\r\n\r\n")


async def test_clients_hand_in_postfix_takes_and_everyone_verifies(tmp_path):
    swaks, smtp_source = require("swaks"), require("smtp-source")
    async with everything(tmp_path) as (site, _, postfix):
        for mechanism in ("PLAIN", "LOGIN"):
            said = await run(
                swaks, "--server", ":".join(map(str, site.submission)), "--tls", "--auth", mechanism,
                "--auth-user", "ehr", "--auth-password", site.secret, "--helo", "ehr.clinic.example",
                "--from", SENDER, "--to", "pat@postfix.example",
                "--header", f"Subject: by swaks {mechanism}", "--body", "A letter by swaks.",
            )  # fmt: skip
            assert "queued as" in said
        await asyncio.to_thread(send_with_smtplib, site)
        await run(
            smtp_source, "-s", "4", "-m", "20", "-l", "4096", "-f", SENDER, "-t", "load@postfix.example", "-M", "ehr",
            ":".join(map(str, site.relay)),
        )  # fmt: skip
        arrived = await postfix.wait_mail(2 + 1 + 2 + 20)
        await site.stop()
        assert len(arrived) == 25
        check_arrivals(site, arrived, tmp_path)
        levels = [one["facts"]["proof"]["level"] for one in audit(site) if one["kind"] == "fate"]
        assert set(levels) == {"verified"}
        assert all(b"(using TLSv1.3 with cipher" in content for content in arrived)


def check_arrivals(site, arrived, directory):
    """Every message carries two signatures that dkimpy and OpenDKIM verify; a changed one verifies with neither."""
    keys = records(site)
    directory = directory / "opendkim"
    directory.mkdir()
    dns = {f"{name}.".encode(): text.encode() for name, text in keys.items()}
    assert len(keys) == 2
    for content in arrived:
        signed = signed_part(content)
        assert signed.count(b"DKIM-Signature:") == 2
        assert {b"rsa-sha256", b"ed25519-sha256"} == {
            kind for kind in (b"rsa-sha256", b"ed25519-sha256") if kind in signed
        }
        for index in range(2):
            assert dkimpy.DKIM(signed).verify(idx=index, dnsfunc=lambda name, timeout=5: dns[name])
    odd = next(content for content in arrived if b"trailing spaces" in content)
    swaks = next(content for content in arrived if b"A letter by swaks" in content)
    for content in (arrived[-1], odd, swaks):
        said = opendkim_says(directory, content, keys)
        for algorithm in ("rsa-sha256", "ed25519-sha256"):
            (line,) = [line for line in said.splitlines() if f"header.a={algorithm}" in line]
            assert line.strip().startswith("dkim=pass"), said
    changed = odd.replace(b"trailing spaces", b"trailing spices")
    assert "dkim=pass" not in opendkim_says(directory, changed, keys)
    with pytest.raises(dkimpy.ValidationError, match="body hash mismatch"):
        dkimpy.DKIM(signed_part(changed)).verify(dnsfunc=lambda name, timeout=5: dns[name])


async def test_postfix_as_a_client_hands_in_pipelined(tmp_path):
    async with system(tmp_path, domain("mail.example"), policy=VERIFIED) as (site, internet):
        certificate = site.authority.issue("mx.inside.example")
        async with Postfix(
            address="127.0.2.2", port=free_port("127.0.2.2"), domain="inside.example", certificate=certificate,
            relayhost=site.relay,
        ) as postfix:  # fmt: skip
            peer = internet.peers["mail.example"]

            def send():
                with smtplib.SMTP(postfix.address, postfix.port, timeout=60) as client:
                    for number in range(5):
                        client.sendmail(
                            SENDER, [f"pat{number}@mail.example", f"sam{number}@mail.example"], ODD.encode()
                        )

            await asyncio.to_thread(send)
            taken = await peer.wait_messages(5, timeout=60)
            assert sorted(name for message in taken for name in message.recipients) == sorted(
                f"{name}{number}@mail.example" for name in ("pat", "sam") for number in range(5)
            )
            text = ODD.encode().partition(b"\r\n\r\n")[2]
            assert all(message.content.endswith(text) for message in taken)
            assert "status=sent (250 2.0.0 Ok: queued as" in postfix.log()
