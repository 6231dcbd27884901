"""Who runs a recipient's mail: few names, whatever domains and servers there are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.errors import ProblemsError
from relay.delivery.provider import OTHER, read_providers
from relay.observe.catalogue import PROVIDER
from relay.reputation.load import load_providers

TABLE = load_providers()


@pytest.mark.parametrize(("domain", "host", "name"), [
    ("gmail.com", "", "google"), ("clinic.example", "aspmx.l.google.com", "google"),
    ("clinic.example", "ASPMX.L.GOOGLE.COM.", "google"), ("clinic.example", "notgoogle.com", OTHER),
    ("clinic.example", "clinic-example.mail.protection.outlook.com", "microsoft-365"),
    ("hotmail.com", "hotmail-com.olc.protection.outlook.com", "microsoft-consumer"),
    ("clinic.example", "x.olc.protection.outlook.com", "microsoft-consumer"),
    ("clinic.example", "mxa-001.gslb.pphosted.com", "proofpoint"), ("gmail.com", "mx.pphosted.com", "google"),
    ("clinic.example", "mx.clinic.example", OTHER), ("clinic.example", "", OTHER), ("", "", OTHER),
])  # fmt: skip
def test_a_domain_or_its_server_says_who(domain, host, name):
    assert TABLE.of(domain, host) == name


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_names_are_few_whatever_is_asked(domain, host):
    named = {*TABLE._domains.values(), *TABLE._hosts.values(), OTHER}
    assert TABLE.of(domain, host) in named
    assert len(named) <= PROVIDER.limit


@pytest.mark.parametrize("text", [
    "", "providers: 1", "providers: {a: {domain: [x.example]}}", "x: {}", "[", "providers: {a: 1}",
    "providers: {a: {domains: [x.example]}, b: {domains: [x.example]}}",
])  # fmt: skip
def test_a_table_that_is_none_is_told(text):
    with pytest.raises(ProblemsError, match="is not a table of providers"):
        read_providers(text, "providers.yaml")
