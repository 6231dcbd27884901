"""A signed zone that NSD serves and Unbound validates, beside one that nobody signed."""

import asyncio
import contextlib
import datetime as dt
from pathlib import Path

import dns.dnssec
import dns.name
import dns.node
import dns.rdataset
import dns.rdatatype
import dns.zone
from cryptography.hazmat.primitives.asymmetric import ec

from relay.demo.ports import free_port
from tests.support.peers import require

SIGNED, PLAIN = "signed.example", "plain.example"
_HEAD = """$TTL 60
@ IN SOA ns hostmaster 1 3600 600 86400 60
@ IN NS ns
ns IN A 127.0.0.1
"""
_NSD = """
server:
  ip-address: 127.0.0.1@{port}
  username: ""
  zonesdir: "{directory}"
  database: ""
  pidfile: "{directory}/nsd.pid"
  zonelistfile: "{directory}/zone.list"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  server-count: 1
  verbosity: 1
remote-control:
  control-enable: no
zone:
  name: "signed.example"
  zonefile: "signed.zone"
zone:
  name: "plain.example"
  zonefile: "plain.zone"
"""
_UNBOUND = """
server:
  interface: 127.0.0.1@{port}
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  use-syslog: no
  logfile: ""
  do-daemonize: no
  do-ip6: no
  do-not-query-localhost: no
  num-threads: 1
  module-config: "validator iterator"
  trust-anchor-file: "{directory}/anchor"
  ede: yes
remote-control:
  control-enable: no
stub-zone:
  name: "signed.example"
  stub-addr: 127.0.0.1@{upstream}
stub-zone:
  name: "plain.example"
  stub-addr: 127.0.0.1@{upstream}
"""


def sign(records, directory: Path, *, expired=(), forged=()):
    """Write the signed zone and its trust anchor.

    Args:
        records: lines of the zone.
        directory: where the files go.
        expired: names (relative) whose TLSA signatures ended yesterday.
        forged: names (relative) whose TLSA records are not what was signed.
    """
    zone = dns.zone.from_text(_HEAD + "\n".join(records), origin=SIGNED, relativize=False)
    key = ec.generate_private_key(ec.SECP256R1())
    dnskey = dns.dnssec.make_dnskey(key.public_key(), "ECDSAP256SHA256", flags=257)
    now = dt.datetime.now(dt.UTC)
    with zone.writer() as txn:
        dns.dnssec.sign_zone(
            zone, txn, keys=[(key, dnskey)], inception=now - dt.timedelta(days=2), lifetime=864_000, dnskey_ttl=60
        )
    for name in expired:
        owner, rrset = _tlsa(zone, name)
        signature = dns.dnssec.sign(
            (owner, rrset), key, dns.name.from_text(SIGNED), dnskey,
            inception=now - dt.timedelta(days=9), expiration=now - dt.timedelta(days=1),
        )  # fmt: skip
        signatures = dns.rdataset.from_rdata(60, signature)
        zone.nodes[owner].replace_rdataset(signatures)
    for name in forged:
        owner, rrset = _tlsa(zone, name)
        rdata = rrset[0]
        changed = rdata.replace(cert=bytes(32))
        zone.nodes[owner].replace_rdataset(dns.rdataset.from_rdata(60, changed))
    zone.to_file(str(directory / "signed.zone"), relativize=False)
    (directory / "anchor").write_text(f"{SIGNED}. IN DNSKEY {dnskey}\n")


def _tlsa(zone, name):
    owner = dns.name.from_text(name, dns.name.from_text(SIGNED))
    return owner, zone.find_rdataset(owner, dns.rdatatype.TLSA)


async def _start(stack, program, *arguments, ready: bytes):
    process = await asyncio.create_subprocess_exec(
        program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def end():
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await asyncio.gather(process.wait(), process.stderr.read())
        await asyncio.sleep(0)

    stack.push_async_callback(end)
    said = b""
    async with asyncio.timeout(60):
        while ready not in said:
            line = await process.stderr.readline()
            assert line, f"{program} ended: {said.decode()}"
            said += line


def _write(directory, signed, plain, faults):
    directory.mkdir(exist_ok=True)
    sign(signed, directory, **faults)
    (directory / "plain.zone").write_text(_HEAD + "\n".join(plain) + "\n")


@contextlib.asynccontextmanager
async def validated_zone(directory: Path, signed, plain=(), **faults):
    """Serve both zones; gives the port of the validating resolver."""
    nsd, unbound = require("nsd"), require("unbound")
    await asyncio.to_thread(_write, directory, signed, plain, faults)
    upstream = free_port(udp=True)
    (directory / "nsd.conf").write_text(_NSD.format(port=upstream, directory=directory))
    port = free_port(udp=True)
    (directory / "unbound.conf").write_text(_UNBOUND.format(port=port, directory=directory, upstream=upstream))
    async with contextlib.AsyncExitStack() as stack:
        await _start(stack, nsd, "-d", "-c", str(directory / "nsd.conf"), ready=b"nsd started")
        await _start(stack, unbound, "-d", "-c", str(directory / "unbound.conf"), ready=b"start of service")
        yield port
