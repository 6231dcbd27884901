"""From the configuration to the parts that judge other servers."""

import ssl
from dataclasses import replace

import pytest

from relay.app.trust import Outward, Probes
from relay.config.load import load
from relay.core.errors import ProblemsError
from relay.core.outcome import Failure, Stage, Trouble
from relay.core.ports import ConnectError
from relay.delivery.routing import Route, RouteTable
from relay.net.resolver import Resolver, ResolverOptions
from relay.net.tls import SP800_52R2
from relay.store import MemoryStore
from relay.trust.capability import Observation
from tests.support.configs import furnish
from tests.support.queue import ManualClock
from tests.support.vault import FakeVault

HEAD = """\
hostname: relay.clinic.example
listeners:
  - {name: ehr, kind: submission, address: 127.0.0.1, port: 0, certificate: tls/good.pem, key: tls/good.key}
"""


@pytest.fixture
def outward(tmp_path):
    etc = furnish(tmp_path)

    def make(text):
        (etc / "postern.yaml").write_text(HEAD + text)
        resolver = Resolver(ResolverOptions(nameservers=("127.0.0.1",), port=9))
        return Outward.of(load(etc / "postern.yaml"), resolver, MemoryStore(FakeVault(), ManualClock()), None)

    return make


def test_rules_become_contexts_and_those_that_want_the_same_share_them(outward):
    rules = outward(
        "tls:\n  rules:\n"
        "    - {destinations: [a.example], minimum: 1.3, ciphers: sp800-52r2}\n"
        "    - {destinations: [b.example], roots: tls/good.pem}\n"
        f"    - {{destinations: [c.example], pins: ['{'AB:' * 31}AB']}}\n"
        "    - {destinations: ['*.d.example'], client_certificate: tls/good.pem, client_key: tls/good.key}\n"
        "    - {destinations: [e.example]}\n"
    ).connector._rules
    narrow, private, pinned = (rules.of(f"{name}.example") for name in "abc")
    assert narrow.contexts.verifying.minimum_version is ssl.TLSVersion.TLSv1_3
    assert narrow.contexts.suites == frozenset(SP800_52R2)
    assert len(private.contexts.verifying.get_ca_certs()) <= 1
    assert pinned.pins == {"ab" * 32}
    assert pinned.contexts is rules.of("e.example").contexts
    assert rules.of("x.d.example") is not None
    assert rules.of("d.example") is None


def test_a_rule_whose_files_cannot_be_used_is_told(outward):
    with pytest.raises(ProblemsError, match="cannot be read"):
        outward("tls:\n  rules:\n    - {destinations: [a.example], roots: tls/absent.pem}\n")


@pytest.mark.parametrize(
    ("text", "dane", "policies"),
    [
        ("", False, True),
        ("dns: {validating: true}", True, True),
        ("dns: {validating: true}\ntls: {dane: false}", False, True),
        ("tls: {mta_sts: {enabled: false}}", False, False),
    ],
)
def test_only_what_is_switched_on_and_can_be_believed_vouches(outward, text, dane, policies):
    made = outward(text)
    vouchers = made.connector._vouching
    assert (vouchers._dane is not None, vouchers._mx, made.policies is not None) == (dane, dane, policies)


class Connector:
    """Takes down what was probed."""

    def __init__(self):
        self.probed = []

    async def probe(self, destination):
        self.probed.append(destination)


async def always(_):
    return True


async def test_destinations_nobody_met_for_long_are_probed_over_their_routes(outward):
    from relay.core.level import Level, Proof

    made = outward("")
    connector = Connector()
    routes = RouteTable((Route(name="partner", domains=("routed.example",)),))
    probed = replace(made, connector=connector)
    probes = Probes(lambda: probed, lambda: routes, None)
    made.capabilities._knowledge._clock.now = 1000.0
    for domain, host, at in (("old.example", "a", 10), ("mixed.example", "a", 10), ("mixed.example", "b", 900)):
        proof = Proof(level=Level.VERIFIED, host=host)
        made.capabilities.saw(Observation(domain=domain, proof=proof, how="delivery", at=at))
        await made.capabilities.settle()
    await probes.meet_known(older_than=500, pause=0, mine=always)
    assert connector.probed == ["old.example"]
    assert await probes.probe(["routed.example", "route:partner", "old.example"]) == {}
    assert connector.probed[1:] == ["route:partner", "route:partner", "old.example"]


async def test_a_server_that_nobody_reaches_is_knocked_at_once_in_a_while_by_all_nodes_together(outward):
    from relay.core.level import Level, Proof

    class Unreachable(Connector):
        async def probe(self, destination):
            await super().probe(destination)
            raise ConnectError((Failure(trouble=Trouble.NETWORK, stage=Stage.CONNECT, detail="gone"),))

    made = outward("")
    store = made.capabilities._knowledge
    store._clock.now = 1000.0
    proof = Proof(level=Level.VERIFIED, host="a")
    made.capabilities.saw(Observation(domain="gone.example", proof=proof, how="delivery", at=10))
    await made.capabilities.settle()
    worlds = [replace(made, connector=Unreachable()) for _ in range(2)]
    nodes = [Probes(lambda one=one: one, lambda: RouteTable(()), None) for one in worlds]

    async def mine(destination):
        return await store.count(f"tls-probe/{destination}", window=400, now=store._clock.now) == 1

    for store._clock.now in (1000.0, 1100.0, 1500.0):
        for node in nodes:
            await node.meet_known(older_than=500, pause=0, mine=mine)
    assert [one.connector.probed for one in worlds] == [["gone.example"] * 2, []]
