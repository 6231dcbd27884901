import contextlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.verification import Store
from hypothesis import given
from hypothesis import strategies as st

from relay.trust.dane import CERT, DANE_EE, DANE_TA, FULL, SPKI, MismatchError, Tlsa, match, public_key_info, usable
from tests.support.certificates import issue, tlsa

NOW = time.time()
MX = "mx.good.example"
NAMES = (MX,)

ROOT = issue("Root", ca=True)
MIDDLE = issue("Middle", ROOT, ca=True)
LEAF = issue(MX, MIDDLE)
CHAIN = (LEAF.der, MIDDLE.der, ROOT.der)
EVERY_FORM = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


def refused(chain, *records, names=NAMES, now=NOW):
    with pytest.raises(MismatchError) as caught:
        match(chain, records, names=names, now=now)
    return str(caught.value)


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
def test_dane_ee_matches_the_leaf_in_every_form(selector, matching):
    record = tlsa(DANE_EE, selector, matching, LEAF.der)
    assert usable([record]) == (record,)
    assert match(CHAIN, [record], names=NAMES, now=NOW) == record
    assert match(CHAIN[:1], [record], names=NAMES, now=NOW) == record
    refused((issue(MX, MIDDLE).der, MIDDLE.der), record)
    refused((), record)


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
@pytest.mark.parametrize("anchor", [MIDDLE, ROOT])
def test_dane_ta_matches_an_issuer_in_every_form(selector, matching, anchor):
    record = tlsa(DANE_TA, selector, matching, anchor.der)
    assert usable([record]) == (record,)
    assert match(CHAIN, [record], names=NAMES, now=NOW) == record
    assert match((CHAIN[0], CHAIN[2], CHAIN[1]), [record], names=NAMES, now=NOW) == record


def test_dane_ee_looks_at_neither_names_nor_dates():
    old = issue("somebody else", names=(), days=(-30, -1))
    assert match((old.der,), [tlsa(DANE_EE, SPKI, 1, old.der)], names=NAMES, now=NOW).usage == DANE_EE


@pytest.mark.parametrize(
    "leaf",
    [
        issue("mx.other.example", MIDDLE),
        issue(MX, MIDDLE, names=()),
        issue(MX, MIDDLE, days=(-30, -1)),
        issue(MX, MIDDLE, days=(1, 30)),
        issue(MX, issue("Middle", ca=True)),
        issue(MX, issue(MX, MIDDLE)),
    ],
    ids=["other-name", "no-name", "expired", "not-yet", "other-issuer", "issuer-is-no-authority"],
)
def test_dane_ta_checks_chain_names_and_dates(leaf):
    why = refused((leaf.der, MIDDLE.der, ROOT.der), tlsa(DANE_TA, CERT, 1, MIDDLE.der))
    assert "does not lead to it" in why


def test_dane_ta_with_a_chain_cut_short():
    record = tlsa(DANE_TA, CERT, 1, ROOT.der)
    assert "matches none" in refused((LEAF.der, MIDDLE.der), record)
    assert "does not lead" in refused((LEAF.der, ROOT.der), record)


def test_dane_ta_whose_whole_certificate_is_in_the_record_needs_not_be_sent():
    record = tlsa(DANE_TA, CERT, FULL, ROOT.der)
    assert match((LEAF.der, MIDDLE.der), [record], names=NAMES, now=NOW) == record


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
@pytest.mark.parametrize("issuer", [MIDDLE, ROOT])
def test_dane_ee_is_not_satisfied_by_an_issuer(selector, matching, issuer):
    refused(CHAIN, tlsa(DANE_EE, selector, matching, issuer.der))


def test_dane_ta_is_not_satisfied_by_the_leaf_itself():
    alone = issue(MX, ca=False)
    refused((alone.der,), tlsa(DANE_TA, CERT, 1, alone.der))


def test_any_of_the_names_will_do_and_wildcards_hold_for_one_label():
    leaf = issue("*.good.example", MIDDLE)
    chain, record = (leaf.der, MIDDLE.der), tlsa(DANE_TA, SPKI, 2, MIDDLE.der)
    assert match(chain, [record], names=("good.example", MX), now=NOW) == record
    refused(chain, record, names=("good.example", "a.b.good.example"))
    refused(chain, record, names=("_bad name_",))


def test_one_matching_record_among_others_is_enough():
    other = issue(MX)
    records = [tlsa(DANE_EE, 1, 1, other.der), tlsa(DANE_TA, 0, 1, other.der), tlsa(DANE_TA, 0, 1, ROOT.der)]
    assert match(CHAIN, records, names=NAMES, now=NOW) == records[2]


def test_a_hostile_domain_gets_few_chains_looked_at(monkeypatch):
    """Eleven anchors in four forms under three names, each leading nowhere by way of many: it took 14 s of the loop."""
    looked_at = []

    def count(roots):
        looked_at.append(roots)
        return Store(roots)

    monkeypatch.setattr("relay.trust.dane.Store", count)
    key = ec.generate_private_key(ec.SECP256R1())
    between = [issue("Between", MIDDLE, ca=True) for _ in range(4)]
    anchors = [issue("Nowhere", ca=True, key=key) for _ in range(11)]
    names = (MX, "good.example", "a.good.example")
    leaf = issue(MX, between[0], names=names)
    records = [tlsa(DANE_TA, CERT, matching, one.der) for one in anchors for matching in (0, 2)]
    records += [tlsa(DANE_TA, SPKI, matching, anchors[0].der) for matching in (0, 2)]
    chain = [leaf.der, *(one.der for one in between), *(one.der for one in anchors)]
    assert "does not lead" in refused(chain, *usable(records), names=names)
    assert 0 < len(looked_at) <= 4


def test_the_same_anchor_in_many_forms_is_looked_at_once():
    forms = [tlsa(DANE_TA, selector, matching, MIDDLE.der) for selector in (0, 1) for matching in (0, 2)]
    elsewhere = issue("Elsewhere", ca=True)
    records = [tlsa(DANE_TA, CERT, FULL, one.der) for one in (elsewhere, issue("Gone", ca=True))]
    last = tlsa(DANE_TA, SPKI, 2, ROOT.der)
    other = issue(MX, elsewhere)
    chain = (LEAF.der, MIDDLE.der, ROOT.der)
    assert match(chain, [*records, *forms, last], names=NAMES, now=NOW) == forms[0]
    assert "does not lead" in refused((other.der, *chain[1:]), *forms, last)


@pytest.mark.parametrize(
    "record",
    [
        tlsa(0, 0, 1, ROOT.der),
        tlsa(1, 1, 1, LEAF.der),
        Tlsa(usage=4, selector=0, matching=1, data=b"x" * 32),
        Tlsa(usage=255, selector=0, matching=1, data=b"x" * 32),
        Tlsa(usage=3, selector=2, matching=1, data=b"x" * 32),
        Tlsa(usage=3, selector=0, matching=3, data=b"x" * 32),
        Tlsa(usage=3, selector=0, matching=1, data=b"x" * 31),
        Tlsa(usage=3, selector=0, matching=2, data=b"x" * 32),
        Tlsa(usage=3, selector=1, matching=1, data=b""),
        Tlsa(usage=2, selector=0, matching=0, data=b"not a certificate"),
        Tlsa(usage=2, selector=1, matching=0, data=LEAF.der),
    ],
    ids=str,
)
def test_what_smtp_cannot_use_is_left_out(record):
    assert usable([record]) == ()


def test_the_weaker_digest_does_not_count_beside_the_stronger():
    other = issue(MX)
    weak, strong = tlsa(DANE_EE, SPKI, 1, LEAF.der), tlsa(DANE_EE, SPKI, 2, other.der)
    assert usable([weak, strong]) == (strong,)
    refused(CHAIN, *usable([weak, strong]))
    elsewhere = tlsa(DANE_EE, CERT, 1, LEAF.der)
    whole = tlsa(DANE_EE, SPKI, FULL, LEAF.der)
    assert set(usable([weak, strong, elsewhere, whole])) == {strong, elsewhere, whole}


KEYS = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}


@pytest.mark.parametrize("kind", KEYS)
def test_the_public_key_is_cut_out_octet_for_octet(kind):
    issued = issue(MX, ROOT, key=KEYS[kind]())
    assert public_key_info(issued.der) == issued.spki


def der(tag, *contents):
    octets = b"".join(contents)
    size = len(octets)
    if size < 0x80:
        return bytes((tag, size)) + octets
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + octets


VERSION, FIELD, KEY = der(0xA0, b"\x02\x01\x02"), der(0x30, b"\x05\x00"), der(0x30, bytes(200))


def certificate(*fields):
    """The outline of a certificate: what is signed, and behind it the signature's own two elements."""
    return der(0x30, der(0x30, *fields), FIELD, der(0x03, bytes(300)))


@pytest.mark.parametrize("version", [(), (VERSION,)], ids=["version 1", "version 3"])
def test_the_public_key_stands_behind_five_fields_with_a_version_before_them_or_not(version):
    assert public_key_info(certificate(*version, *[FIELD] * 5, KEY)) == KEY
    assert public_key_info(certificate(*version, *[FIELD] * 5, KEY, *[FIELD] * 20)) == KEY


@pytest.mark.parametrize("fields", [(), (VERSION,), (FIELD,) * 5, (VERSION, *[FIELD] * 5)])
def test_what_stands_behind_the_signed_part_is_never_the_public_key(fields):
    with pytest.raises(ValueError, match="not a certificate"):
        public_key_info(certificate(*fields))


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_of_certificates(junk):
    with contextlib.suppress(ValueError):
        public_key_info(junk)
    for record in (tlsa(DANE_EE, SPKI, 1, LEAF.der), tlsa(DANE_TA, CERT, 1, ROOT.der)):
        refused((junk,), record)


@given(st.data())
def test_a_changed_certificate_matches_nothing(data):
    # But for how many bits of the signature's last octet are unused: nothing signs that, and 1 often reads as 0.
    unused = len(LEAF.der) - len(x509.load_der_x509_certificate(LEAF.der).signature) - 1
    place = data.draw(st.integers(0, len(LEAF.der) - 1).filter(lambda place: place != unused))
    changed = bytearray(LEAF.der)
    changed[place] ^= data.draw(st.integers(1, 255))
    refused((bytes(changed), *CHAIN[1:]), tlsa(DANE_EE, CERT, 1, LEAF.der), tlsa(DANE_TA, CERT, 1, ROOT.der))
