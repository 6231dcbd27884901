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
        "pat@mail..example", "pat@-mail.example", "pat@[300.1.1.1]", "pat@[IPv6:zz]", 'pat"roe@mail.example',
        "pat@mail.example\r\nRCPT TO:<x@y.example>", "pat\x00@mail.example", '"pat\r\n"@mail.example',
        "a" * 65 + "@mail.example", "pat@" + "a" * 64 + ".example", "pat@" + ".".join(["a" * 60] * 5), "pat@exa mple",
    ],
)  # fmt: skip
def test_refuses_what_they_do_not_and_does_not_repeat_it(text):
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert "pat" not in str(caught.value).replace("part", "")


def test_domains_compare_after_idna_and_case():
    assert normalise_domain("BÜCHER.example") == normalise_domain("xn--bcher-kva.EXAMPLE.")
    assert Address.parse("Pat@Mail.example") != Address.parse("pat@mail.example")
    assert Address.parse("Pat@Mail.example").key == Address.parse("pat@mail.example").key


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
