"""Reports about TLS (RFC 8460): read whoever wrote them, and never beyond their bounds."""

import gzip
import json
import zlib
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.trust import tlsrpt
from relay.trust.tlsrpt import ReportError, find_report, read_report
from tests.support.laborious import laborious

EXAMPLE = {  # the shape of RFC 8460 appendix B
    "organization-name": "Company-X",
    "date-range": {"start-datetime": "2016-04-01T00:00:00Z", "end-datetime": "2016-04-01T23:59:59Z"},
    "contact-info": "sts-reporting@company-x.example",
    "report-id": "5065427c-23d3-47ca-b6e0-946ea0e8c4be",
    "policies": [
        {
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                "policy-domain": "Company-Y.example",
                "mx-host": ["*.mail.company-y.example"],
            },
            "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
            "failure-details": [
                {
                    "result-type": "certificate-expired",
                    "sending-mta-ip": "2001:db8:abcd:0012::1",
                    "receiving-mx-hostname": "mx1.mail.company-y.example",
                    "failed-session-count": 100,
                },
                {
                    "result-type": "validation-failure",
                    "sending-mta-ip": "198.51.100.62",
                    "receiving-ip": "203.0.113.58",
                    "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                    "failed-session-count": 203,
                    "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED",
                },
            ],
        }
    ],
}


def packed(plain=EXAMPLE):
    return gzip.compress(json.dumps(plain).encode())


def message(data, *, kind="tlsrpt+gzip", name="a!b!1!2.json.gz"):
    mail = EmailMessage()
    mail["From"], mail["To"] = "tlsrpt@company-x.example", "reports@company-y.example"
    mail["TLS-Report-Submitter"] = "Company-X.example"
    mail.set_content("This is an aggregate TLS report.")
    mail.add_attachment(data, maintype="application", subtype=kind, filename=name)
    return mail.as_bytes()


@pytest.mark.parametrize(
    "content",
    [
        packed(),
        json.dumps(EXAMPLE).encode(),
        b"\xef\xbb\xbf" + json.dumps(EXAMPLE).encode(),
        message(packed()),
        message(json.dumps(EXAMPLE).encode(), kind="tlsrpt+json", name="a.json"),
        message(packed(), kind="octet-stream"),
    ],
    ids=["gzip", "json", "byte-order-mark", "message", "message-json", "message-octets"],
)
def test_the_same_report_however_it_comes(content):
    report = find_report(content)
    assert (report.organization, report.report_id) == ("Company-X", "5065427c-23d3-47ca-b6e0-946ea0e8c4be")
    assert report.end - report.begin == 86_399
    (policy,) = report.policies
    assert (policy.kind, policy.domain, policy.succeeded, policy.failed) == ("sts", "company-y.example", 5326, 303)
    assert policy.strings[1] == "mode: testing"
    assert [(one.result, one.count) for one in policy.details] == [
        ("certificate-expired", 100),
        ("validation-failure", 203),
    ]
    assert policy.details[1].reason == "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
    assert report.submitter == ("company-x.example" if content.startswith(b"From") else "")


def test_a_pattern_as_text_and_numbers_as_texts_are_read():
    plain = json.loads(json.dumps(EXAMPLE))
    plain["policies"][0]["policy"]["mx-host"] = "*.mail.company-y.example"
    plain["policies"][0]["summary"]["total-failure-session-count"] = "303"
    (policy,) = read_report(json.dumps(plain).encode()).policies
    assert (policy.mx, policy.failed) == (("*.mail.company-y.example",), 303)


@pytest.mark.parametrize("content", [b"", b"Subject: hello\r\n\r\nhow are you\r\n", b"\xff\xfe\x00", b"PK\x03\x04"])
def test_what_is_none_is_none(content):
    assert find_report(content) is None


def bomb():
    squeeze = zlib.compressobj(9, wbits=31)
    return squeeze.compress(b"[" * (20 << 20)) + squeeze.flush()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (bomb(), "far more"),
        (message(bomb()), "far more"),
        (b"\x1f\x8b" + b"x" * 40, "damaged"),
        (packed()[:-20], "early"),
        (b"{" + b"x" * tlsrpt.MAX_MESSAGE, "larger"),
        (b'{"policies": ' + b"[" * 100_000, "not JSON"),
        (b"{}", "not a report"),
        (b'{"policies": [], "date-range": 1}', "date-range"),
    ],
    ids=["bomb", "mailed-bomb", "damaged", "early", "large", "deep", "empty", "date-range"],
)
def test_what_is_not_fit_to_be_read_is_refused(content, why):
    with pytest.raises(ReportError, match=why):
        find_report(content)


@pytest.mark.parametrize("count", [-1, 2**60, True, 1.5, None, "many"])
def test_counts_are_counts(count):
    plain = json.loads(json.dumps(EXAMPLE))
    plain["policies"][0]["summary"]["total-failure-session-count"] = count
    with pytest.raises(ReportError, match="counts"):
        read_report(json.dumps(plain).encode())


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00"),
        ("2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_times_that_cannot_be_written_down_again_are_refused(begin, end):
    plain = EXAMPLE | {"date-range": {"start-datetime": begin, "end-datetime": end}}
    with pytest.raises(ReportError, match="date-range"):
        read_report(json.dumps(plain).encode())


def test_more_policies_or_failures_than_are_read_are_refused():
    policy = EXAMPLE["policies"][0]
    many = {**EXAMPLE, "policies": [policy] * (tlsrpt.MAX_POLICIES + 1)}
    with pytest.raises(ReportError, match="more than"):
        read_report(json.dumps(many).encode())
    details = {**policy, "failure-details": policy["failure-details"] * tlsrpt.MAX_DETAILS}
    with pytest.raises(ReportError, match="more than"):
        read_report(json.dumps({**EXAMPLE, "policies": [details]}).encode())


def test_no_text_moves_a_terminal_or_fills_a_page():
    plain = {**EXAMPLE, "organization-name": "\x1b[2JEvil\r\n" + "x" * 10_000}
    report = read_report(json.dumps(plain).encode())
    assert report.organization.isprintable()
    assert len(report.organization) <= 300


keys = st.sampled_from(
    ["policies", "policy", "summary", "failure-details", "date-range", "start-datetime", "end-datetime",
     "policy-type", "policy-string", "mx-host", "failed-session-count", "total-failure-session-count"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6),
    max_leaves=30,
)


@given(st.dictionaries(keys, values, max_size=8))
def test_any_json_is_read_or_refused(plain):
    try:
        report = read_report(json.dumps(plain).encode())
    except ReportError:
        return
    assert report.end >= report.begin


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(content):
    for one in (content, b"\x1f\x8b\x08\x00" + content, b"{" + content):
        try:
            find_report(one)
        except ReportError:
            continue


def test_a_message_that_costs_too_much_to_take_apart_is_refused():
    with pytest.raises(ReportError, match="too many parts"):
        find_report(laborious(lines=100_000, inside=200))
