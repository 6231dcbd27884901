import hashlib
import ssl

import pytest

from relay.core.errors import ProblemsError
from relay.core.level import Level, Voucher
from relay.core.outcome import Trouble
from relay.demo import session
from relay.demo.behaviour import PeerBehaviour
from relay.net.rules import Rule, Rules
from relay.net.tls import SP800_52R2, TlsOptions, make_contexts
from relay.trust.dane import public_key_info
from tests.support.certificates import leaf_of, tlsa_text
from tests.support.net import contexts
from tests.support.trust import GOOD, MX, world


def rule(tls, *destinations, **more):
    return Rules([Rule(destinations=destinations or (GOOD,), contexts=tls, **more)])


def made(authority, **more):
    return make_contexts(TlsOptions(system_trust=False, trust_files=(str(authority.root),), **more))


@pytest.mark.parametrize(
    ("pattern", "destination", "holds"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.a.example", False),
        ("*.a.example", "b.a.example", True),
        ("*.a.example", "c.b.a.example", True),
        ("*.a.example", "a.example", False),
        ("*", "a.example", True),
        ("*", "route:clinic", False),
        ("route:clinic", "route:clinic", True),
    ],
)
def test_a_rule_holds_for_what_it_names(tls, pattern, destination, holds):
    assert (rule(tls, pattern).of(destination) is not None) is holds


def test_the_first_rule_that_names_a_destination_holds(tls):
    first, second = (Rule(destinations=(name,), contexts=tls) for name in ("a.example", "*"))
    rules = Rules([first, second])
    assert (rules.of("a.example"), rules.of("b.example")) == (first, second)


@pytest.mark.parametrize("form", ["certificate", "key"])
async def test_a_pinned_certificate_or_key_authenticates_whoever_issued_it(authority, tls, form):
    files = authority.issue("whatever", self_signed=True, expired=True)
    der = leaf_of(files)[0]
    pin = hashlib.sha256(der if form == "certificate" else public_key_info(der)).hexdigest()
    pins = rule(tls, pins=frozenset({pin, "0" * 64}))
    async with world(authority, tls, PeerBehaviour(certificate=files), rules=pins) as it:
        proof = await it.proof(floor=Level.AUTHENTICATED)
    assert (proof.level, proof.vouched_by, proof.checked_by) == (Level.AUTHENTICATED, Voucher.PIN, "pin")


@pytest.mark.parametrize("floor", list(Level))
async def test_a_certificate_that_is_not_pinned_gets_nothing_however_good_it_is(authority, tls, floor):
    pins = rule(tls, pins=frozenset({"0" * 64}))
    async with world(authority, tls, PeerBehaviour(certificate=authority.issue(MX)), rules=pins) as it:
        it.announce()
        failure = await it.failure(floor=floor, tls_failures=3)
        assert failure.trouble is Trouble.BELOW_FLOOR
        assert "pinned" in failure.detail
        assert it.peer.messages == []


async def test_a_private_authority_is_trusted_where_the_rule_says_and_alone(authority, tls):
    private = rule(contexts(authority.untrusted))
    foreign = PeerBehaviour(certificate=authority.untrusted.issue(MX))
    async with world(authority, tls, foreign, rules=private) as it:
        assert (await it.proof(floor=Level.VERIFIED)).checked_by == "PKIX"
        it.peer.behaviour = PeerBehaviour(certificate=authority.issue(MX))
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR
    async with world(authority, tls, foreign) as it:
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR


async def test_records_still_decide_where_a_rule_names_an_authority(authority, tls):
    private = rule(contexts(authority.untrusted))
    files = authority.untrusted.issue(MX)
    secure = (GOOD, MX)
    async with world(
        authority, tls, PeerBehaviour(certificate=files), rules=private, validating=True, secure=secure
    ) as it:
        it.dns.set(f"_{it.peer.port}._tcp.{MX}", {"TLSA": [tlsa_text(3, 1, 1, leaf_of(files)[1])]}, secure=True)
        assert (await it.failure(floor=Level.CLEAR)).trouble is Trouble.BELOW_FLOOR


async def test_a_client_certificate_is_shown(authority, tls, monkeypatch):
    ours = authority.issue("relay.clinic.example", client=True)
    plain = session.server_context

    def demanding(*arguments):
        context = plain(*arguments)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    monkeypatch.setattr(session, "server_context", demanding)
    behaviour = PeerBehaviour(certificate=authority.issue(MX), client_root=authority.root)
    showing = rule(made(authority, client=(str(ours.cert), str(ours.key))))
    async with world(authority, tls, behaviour, rules=showing) as it:
        assert (await it.proof(floor=Level.VERIFIED)).level is Level.VERIFIED
    async with world(authority, tls, behaviour) as it:
        assert (await it.failure(floor=Level.VERIFIED)).trouble in {Trouble.NETWORK, Trouble.BELOW_FLOOR}


async def test_a_minimum_version_of_a_destination_holds(authority, tls):
    old = PeerBehaviour(certificate=authority.issue(MX), maximum_tls=ssl.TLSVersion.TLSv1_2)
    async with world(authority, tls, old) as it:
        assert (await it.proof(floor=Level.VERIFIED)).tls_version == "TLSv1.2"
    async with world(authority, tls, old, rules=rule(made(authority, minimum=ssl.TLSVersion.TLSv1_3))) as it:
        assert (await it.failure(floor=Level.VERIFIED)).trouble is Trouble.BELOW_FLOOR


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_only_the_suites_of_a_preset_are_taken(authority, tls, version):
    behaviour = PeerBehaviour(certificate=authority.issue(MX), maximum_tls=version)
    async with world(authority, tls, behaviour, rules=rule(made(authority, suites=SP800_52R2))) as it:
        assert (await it.proof(floor=Level.VERIFIED)).cipher in SP800_52R2


async def test_a_suite_that_was_not_to_be_chosen_is_refused_on_the_live_connection(authority, tls):
    """Python cannot choose the suites of TLS 1.3, so what was agreed on is judged."""
    narrow = made(authority, suites=("TLS_AES_128_CCM_SHA256", "ECDHE-ECDSA-AES128-CCM"))
    async with world(authority, tls, PeerBehaviour(certificate=authority.issue(MX)), rules=rule(narrow)) as it:
        failure = await it.failure(floor=Level.CLEAR)
        assert failure.trouble is Trouble.BELOW_FLOOR
        assert "cipher suite" in failure.detail
        assert it.peer.messages == []


def test_what_cannot_be_shown_gives_one_clear_error(authority, tmp_path):
    ours, other = (authority.issue("relay.clinic.example", client=True) for _ in range(2))
    with pytest.raises(ProblemsError, match="do not fit"):
        make_contexts(TlsOptions(client=(str(ours.cert), str(other.key))))
    with pytest.raises(ProblemsError, match="cannot be read"):
        make_contexts(TlsOptions(client=(str(tmp_path / "gone.pem"), str(other.key))))
