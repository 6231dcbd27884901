"""Sessions counted by policy, and the day's report: what is written is what was seen, within bounds."""

import email
import gzip
import json
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.address import Address
from relay.trust import sessions, tlsrpt_mail
from relay.trust.sessions import NO_POLICY, AppliedPolicy, Fault, SessionResult, Tally, decode_policies, write_report
from relay.trust.tlsrpt import PolicyType, ReportError, ResultType, TlsReport, find_report, read_report
from relay.trust.tlsrpt_mail import Endpoint, Letter, Mailbox, receivers, write_mail

STS = AppliedPolicy(kind=PolicyType.STS, strings=("version: STSv1", "mode: testing"), mx=("*.good.example",))
TLSA = AppliedPolicy(kind=PolicyType.TLSA, strings=("3 1 1 00",), mx=("mx.good.example",))
NOON = 1_795_348_800.0  # 2026-11-22 12:00 UTC
DAY = "2026-11-22"


def seen(policy=STS, result=None, host="mx.good.example", address="192.0.2.1", source="198.51.100.1", at=NOON):
    fault = Fault(result=result, detail=f"because of {result}") if result else None
    return SessionResult(
        domain="good.example", policy=policy, at=at, fault=fault, host=host, address=address, source=source
    )


results = st.builds(
    seen,
    policy=st.sampled_from([STS, TLSA, NO_POLICY]),
    result=st.none() | st.sampled_from(list(ResultType)),
    host=st.sampled_from(["mx.good.example", "mx2.good.example"]),
    address=st.sampled_from(["192.0.2.1", "2001:db8::1", ""]),
    source=st.sampled_from(["198.51.100.1", ""]),
)


@given(st.lists(results, max_size=40), st.integers(min_value=0, max_value=40))
def test_nothing_is_lost_or_counted_twice_however_it_was_written_down_and_put_together(all_seen, cut):
    first, second, whole = Tally(), Tally(), Tally()
    for number, one in enumerate(all_seen):
        (first if number < cut else second).add(one)
        whole.add(one)
    together = Tally([*decode_policies(first.encode()), *decode_policies(second.encode())])
    assert set(map(plain, together.policies())) == set(map(plain, whole.policies()))
    for one in together.policies():
        of_it = [seen for seen in all_seen if (seen.policy.kind.value, seen.policy.strings) == (one.kind, one.strings)]
        assert one.failed == sum(seen.fault is not None for seen in of_it) == sum(way.count for way in one.details)
        assert one.succeeded == sum(seen.fault is None for seen in of_it)
    report = TlsReport(
        organization="Clinic", contact="tls@clinic.example", report_id="x@clinic.example",
        begin=sessions.begin_of(DAY), end=sessions.begin_of(DAY) + 86_399, policies=whole.policies(),
    )  # fmt: skip
    assert read_report(write_report(report)) == report


def plain(one):
    return (one.kind, one.strings, one.mx, one.succeeded, one.failed, frozenset(one.details))


def test_policies_and_ways_to_fail_are_bounded_and_the_sums_stay_right():
    tally = Tally()
    for number in range(300):
        policy = AppliedPolicy(kind=PolicyType.STS, strings=(f"mode: {number % 50}",))
        tally.add(seen(policy, ResultType.CERTIFICATE_EXPIRED, address=f"192.0.2.{number}"))
    found = tally.policies()
    assert len(found) <= sessions.MAX_POLICIES + 1
    assert sum(one.failed for one in found) == 300
    assert sum(way.count for one in found for way in one.details) == 300
    assert sum(len(one.details) for one in found) <= sessions.MAX_DETAILS + len(found)
    with pytest.raises(ReportError):
        decode_policies(b"7")


def test_addresses_behind_nat_are_not_told():
    tally = Tally()
    for source in ("10.1.2.3", "fd00::1", "9.9.9.9", "2620:fe::fe"):
        tally.add(seen(result=ResultType.CERTIFICATE_EXPIRED, source=source))
    (policy,) = tally.policies()
    assert {way.sending_ip: way.count for way in policy.details} == {"": 2, "9.9.9.9": 1, "2620:fe::fe": 1}


def test_days_are_utc():
    assert seen(at=NOON + 12 * 3600 - 1).day == DAY
    assert seen(at=NOON + 12 * 3600).day == "2026-11-23"
    assert sessions.begin_of(DAY) == NOON - 12 * 3600


# --- who asks for reports -----------------------------------------------------


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (["v=TLSRPTv1; rua=mailto:r@good.example"], ["mailto:r@good.example"]),
        (["v=TLSRPTv1;rua=mailto:r@good.example,https://Good.example/v1?x=1;"],
         ["mailto:r@good.example", "https://good.example/v1?x=1"]),
        (["v=TLSRPTv1; rua = https://good.example:8443/r ; ext=1"], ["https://good.example:8443/r"]),
        (["v=TLSRPTv1; rua=mailto:a%2Cb@good.example?subject=x"], []),
        (["v=TLSRPTv1; rua=mailto:tls%21r@good.example"], ["mailto:tls!r@good.example"]),
        (["other", "v=TLSRPTv1; rua=mailto:r@good.example"], ["mailto:r@good.example"]),
        (["v=TLSRPTv1; rua=mailto:r@good.example", "v=TLSRPTv1; rua=mailto:s@good.example"], []),
        (["v=TLSRPTv2; rua=mailto:r@good.example"], []),
        (["v=TLSRPTv1"], []),
        (["v=TLSRPTv1; rua=http://good.example/, ftp://x/, mailto:, https://u:p@good.example/, https:///x"], []),
        (["v=TLSRPTv1; rua=https://good.example:99999/x,https://[::1/,https://good.example/\x7f"], []),
    ],
)  # fmt: skip
def test_the_record_says_who_asks(records, expected):
    assert [str(one) for one in receivers(records)] == expected


def test_a_domain_does_not_make_us_write_to_many():
    uris = ",".join(f"mailto:r{number}@good.example" for number in range(100))
    assert len(receivers([f"v=TLSRPTv1; rua={uris}"])) == tlsrpt_mail.MAX_URIS
    assert receivers(["v=TLSRPTv1; rua=" + ",".join(["mailto:r@good.example"] * 9)]) == (
        Mailbox(Address("r", "good.example")),
    )


@given(st.text(max_size=80))
def test_any_record_is_read(text):
    for record in (
        text,
        f"v=TLSRPTv1; rua={text}",
        f"v=TLSRPTv1; rua=https://{text}",
        f"v=TLSRPTv1; rua=mailto:{text}",
    ):
        for one in receivers([record]):
            assert isinstance(one, Mailbox | Endpoint)
            assert str(one).isprintable() or isinstance(one, Mailbox)


def test_the_message_is_what_rfc_8460_describes_and_our_own_reader_reads_it():
    tally = Tally()
    tally.add(seen())
    report = TlsReport(
        organization="Clinic", contact="tls@clinic.example", report_id="2026-11-22.abc@clinic.example",
        begin=sessions.begin_of(DAY), end=sessions.begin_of(DAY) + 86_399, policies=tally.policies(),
    )  # fmt: skip
    packed = tlsrpt_mail.pack(write_report(report))
    letter = Letter(
        sender=Address.parse("tls@clinic.example"), to=Address.parse("r@good.example"), domain="good.example",
        at=NOON, hostname="relay.clinic.example",
    )  # fmt: skip
    content = write_mail(report, packed, letter)
    message = email.message_from_bytes(content, policy=default)
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "tlsrpt"
    assert message["TLS-Report-Domain"] == "good.example"
    assert message["TLS-Report-Submitter"] == "clinic.example"
    assert message["TLS-Required"] == "No"
    assert (
        message["Subject"]
        == "Report Domain: good.example Submitter: clinic.example Report-ID: <2026-11-22.abc@clinic.example>"
    )
    told, data = message.iter_parts()
    assert "clinic.example about mail to good.example" in told.get_content()
    assert data.get_content_type() == "application/tlsrpt+gzip"
    begin, end = int(report.begin), int(report.end)
    assert data.get_filename() == f"clinic.example!good.example!{begin}!{end}.json.gz"
    plain = json.loads(gzip.decompress(data.get_content()))
    assert plain["date-range"] == {"start-datetime": "2026-11-22T00:00:00Z", "end-datetime": "2026-11-22T23:59:59Z"}
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert b"\n" not in content.replace(b"\r\n", b"")
    read = find_report(content)
    assert (read.policies, read.submitter) == (report.policies, "clinic.example")
