"""``sslscan`` agrees with what our probe says of other servers, and with what our own listeners are set to.

Of our listeners Postfix's ``posttls-finger`` is asked as well; of other servers it is in test_tls_finger.py.
"""

import asyncio
import re
import xml.etree.ElementTree as ET

import pytest

from relay.core.level import Level
from relay.demo.behaviour import PeerBehaviour
from relay.demo.ports import free_port
from relay.demo.site import Site, SiteOptions
from tests.e2e.test_tls_finger import finger
from tests.support.net import contexts
from tests.support.peers import Postfix, require
from tests.support.trust import GOOD, MX, world

pytestmark = [pytest.mark.peers, pytest.mark.timeout(480)]


async def scan(port, *options, name=MX):
    """What sslscan finds: the versions that are enabled, cipher suites by version, whether the certificate is weak."""
    process = await asyncio.create_subprocess_exec(
        require("sslscan"), "--no-colour", "--xml=-", "--starttls-smtp", f"--sni-name={name}", *options,
        f"127.0.0.1:{port}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), 300)
    root = ET.fromstring(re.sub(rb"^[^<]*", b"", output))
    test = root.find("ssltest")
    versions = {
        f"{one.get('type').upper()}v{one.get('version')}" for one in test.iter("protocol") if one.get("enabled") == "1"
    }
    return versions, {(one.get("sslversion"), one.get("cipher")) for one in test.iter("cipher")}


async def test_it_sees_what_our_probe_sees(authority):
    async with world(authority, contexts(authority), PeerBehaviour(certificate=authority.issue(MX))) as it:
        await it.connector.probe(GOOD)
        await it.capabilities.settle()
        (ours,) = [one async for one in it.capabilities.known()]
        versions, suites = await scan(it.peer.port)
    assert ours.tls_version in versions
    assert (ours.tls_version, ours.cipher) in suites


async def test_of_a_server_that_knows_tls_1_0_alone_both_say_so(authority):
    class Old(Postfix):
        def _write(self):
            super()._write()
            with (self.directory / "etc" / "main.cf").open("a") as settings:
                settings.write("smtpd_tls_security_level = may\nsmtpd_tls_protocols = TLSv1\n")
                settings.write("smtpd_tls_mandatory_protocols = TLSv1\n")
                settings.write("tls_high_cipherlist = ALL:@SECLEVEL=0\ntls_medium_cipherlist = ALL:@SECLEVEL=0\n")

    async with (
        world(authority, contexts(authority), PeerBehaviour()) as it,
        Old(address="127.0.0.1", port=free_port(), domain=GOOD, certificate=authority.issue(MX)) as postfix,
    ):
        it.use_port(postfix.port)
        await it.connector.probe(GOOD)
        await it.capabilities.settle()
        (ours,) = [one async for one in it.capabilities.known()]
        versions, _ = await scan(postfix.port)
    assert (ours.level, ours.tls_version) == ("clear", "")
    assert versions == {"TLSv1.0"}


async def test_our_listeners_speak_what_they_are_set_to_and_nothing_older(tmp_path):
    site = Site(tmp_path, SiteOptions(workers=1))
    await asyncio.to_thread(site.prepare)
    await site.start()
    try:
        versions, suites = await scan(site.submission[1], name=site.options.hostname)
        program, port = require("posttls-finger"), site.submission[1]
        assert await finger(program, site.authority, port, name=site.options.hostname) is Level.VERIFIED
        assert await finger(program, site.authority, port, name="mx.other.example") is Level.ENCRYPTED
        assert await finger(program, site.authority.untrusted, port, name=site.options.hostname) is Level.ENCRYPTED
        assert await finger(program, site.authority, site.relay[1]) is Level.CLEAR, "this one is set to speak no TLS"
    finally:
        await site.stop()
    assert versions == {"TLSv1.2", "TLSv1.3"}
    assert suites
    weak = [name for _, name in suites if re.search(r"NULL|EXP|RC4|DES|MD5|anon|ADH|AECDH", name)]
    assert weak == []
