"""Mailboxes and domains as RFC 5321 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import NULL_SENDER, Address, ReversePath, normalise_domain
from relay.core.errors import AddressError


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        ("pat@mail.example", "pat", "mail.example"),
        ("Pat.Roe@MAIL.Example.", "Pat.Roe", "mail.example"),
        ('"pat roe"@mail.example', '"pat roe"', "mail.example"),
        ('"a@b"@mail.example', '"a@b"', "mail.example"),
        ("pat+lab@mail.example", "pat+lab", "mail.example"),
        ("pat@[192.0.2.1]", "pat", "[192.0.2.1]"),
        ("pat@[ipv6:2001:DB8::1]", "pat", "[IPv6:2001:db8::1]"),
        ("пациент@почта.example", "пациент", "xn--80a1acny.example"),
        ("pat@bücher.example", "pat", "xn--bcher-kva.example"),
        ("pat@_dmarc.example", "pat", "_dmarc.example"),
    ],
)
def test_reads_what_the_rfcs_allow(text, local, domain):
    address = Address.parse(text)
    assert (address.local, address.domain) == (local, domain)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "pat", "@mail.example", "pat@", "pat roe@mail.example", ".pat@mail.example", "pat..roe@mail.example",
        "pat@mail..example", "pat@-mail.example", "pat@[300.1.1.1]", "pat@[IPv6:zz]",
        "pat@[IPv6:2620:0:2d0:200::7%eth0]", "pat@[IPv6:2620:0:2d0:200::7%> NOTIFY=NEVER]", 'pat"roe@mail.example',
        "pat@mail.example\r\nRCPT TO:<x@y.example>", "pat\x00@mail.example", '"pat\r\n"@mail.example',
        "a" * 65 + "@mail.example", "pat@" + "a" * 64 + ".example", "pat@" + ".".join(["a" * 60] * 5), "pat@exa mple",
    ],
)  # fmt: skip
def test_refuses_what_they_do_not_and_does_not_repeat_it(text):
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert "pat" not in str(caught.value).replace("part", "")


@pytest.mark.parametrize(
    ("quoted", "least"),
    [
        ('"pat"', "pat"),
        ('"p\\at.r\\oe"', "pat.roe"),
        ('"pat roe"', '"pat roe"'),
        ('"\\p\\a\\t\\ roe"', '"pat roe"'),
        ('"pat..roe"', '"pat..roe"'),
        ('"a\\"b\\\\c"', '"a\\"b\\\\c"'),
        ('""', '""'),
        ('"' + "\\a" * 40 + '"', "a" * 40),
    ],
)
def test_quoting_that_is_not_needed_makes_no_other_mailbox(quoted, least):
    """RFC 5321 section 4.1.2: else a rule, a floor or a suppression of pat@ would not know "pat"@."""
    assert Address.parse(f"{quoted}@mail.example") == Address(least, "mail.example")
    assert str(Address.parse(f"{least}@mail.example")) == f"{least}@mail.example"


def test_domains_compare_after_idna_and_case():
    assert normalise_domain("BÜCHER.example") == normalise_domain("xn--bcher-kva.EXAMPLE.")
    assert Address.parse("Pat@Mail.example") != Address.parse("pat@mail.example")
    assert Address.parse("Pat@Mail.example").key == Address.parse("pat@mail.example").key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u212a", "k"),  # Kelvin sign
        ("\u212b", "\u00e5"),  # Angstrom sign
        ("\u2126", "\u03c9"),  # Ohm sign
        ("\u0130", "i"),  # capital I with a dot
        ("\u0130", "i\u0307"),
        ("\u0131", "i"),  # small i without a dot
        ("\u017f", "s"),  # long s
        ("\u1e9e", "ss"),
        ("\u03c2", "\u03c3"),  # final sigma
        ("\u03f4", "\u03b8"),  # capital theta symbol
        ("\u01c5", "\u01c6"),  # a digraph in title case
        ("\ufb01", "fi"),  # ligature
        ("\uff4b", "k"),  # full width
    ],
)
def test_letters_that_only_fold_into_one_another_are_different_mailboxes(one, other):
    assert Address.parse(f"a{one}b@mail.example").key != Address.parse(f"a{other}b@mail.example").key


@pytest.mark.parametrize("text", ["ÉLODIE", "ПАЦИЕНТ", "ΟΔΟΣ", "Ärztin.Σ"])
def test_the_case_of_any_alphabet_is_no_difference(text):
    small = "".join(letter.lower() for letter in text)
    assert Address.parse(f"{text}@mail.example").key == Address.parse(f"{small}@mail.example").key


@given(st.characters(min_codepoint=0x80), st.characters(min_codepoint=0x21))
def test_two_letters_are_one_only_as_capital_and_small(one, other):
    keys = {Address(f"x{letter}y", "mail.example").key for letter in (one, other)}
    if len(keys) == 1:
        assert one == other or (len(one.lower()) == 1 and {one, other} <= {one.lower(), one.lower().upper()})


def test_no_two_letters_of_unicode_but_a_capital_and_its_small_one_are_alike():
    """Of all that have a small letter: every class that is looked up alike is a capital and its small one."""
    alike = {}
    for letter in map(chr, range(0x21, 0x110000)):
        if letter != letter.lower():
            alike.setdefault(Address(letter, "x").key.removesuffix("@x"), []).append(letter)
    assert len(alike) > 1300
    for key, letters in alike.items():
        assert letters == [key.upper()] or letters == [key]


@given(st.text(st.characters(min_codepoint=0x80, exclude_categories=("Cs",)), min_size=1, max_size=10))
def test_a_domain_is_what_idna_makes_of_it(label):
    try:
        domain = normalise_domain(f"{label}.example")
    except AddressError:
        return
    assert domain.isascii()
    assert domain == domain.lower() == normalise_domain(domain.upper())


def test_the_null_sender_is_a_value():
    assert NULL_SENDER.is_null
    assert str(NULL_SENDER) == ""
    assert NULL_SENDER.domain == ""
    assert ReversePath(Address.parse("a@b.example")).domain == "b.example"


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_an_address_error(text):
    try:
        address = Address.parse(text)
    except AddressError:
        return
    assert Address.parse(str(address)) == address
    assert "\r" not in str(address)
    assert "\n" not in str(address)
    assert len(str(address).encode("utf-8", "surrogatepass")) <= 254
