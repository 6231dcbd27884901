"""DMARC aggregate reports of both schemas are read; bombs and tricks are refused."""

import contextlib
import gzip
import io
import json
import zipfile
from email.message import EmailMessage

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from relay.cli import main
from relay.reputation.aggregate import MAX_MESSAGE, ReportError, find_report, read_report
from tests.support.laborious import laborious

OLD = """<?xml version="1.0" encoding="UTF-8" ?>
<feedback>
  <report_metadata>
    <org_name>mailbox.example</org_name><email>dmarc@mailbox.example</email>
    <report_id>4711</report_id>
    <date_range><begin>1772323200</begin><end>1772409599</end></date_range>
  </report_metadata>
  <policy_published>
    <domain>Clinic.example</domain><adkim>r</adkim><aspf>r</aspf><p>reject</p><sp>reject</sp><pct>100</pct>
  </policy_published>
  <record>
    <row>
      <source_ip>192.0.2.7</source_ip><count>12</count>
      <policy_evaluated><disposition>none</disposition><dkim>pass</dkim><spf>fail</spf></policy_evaluated>
    </row>
    <identifiers><header_from>clinic.example</header_from></identifiers>
    <auth_results>
      <dkim><domain>clinic.example</domain><selector>r2027</selector><result>pass</result></dkim>
      <dkim><domain>list.example</domain><result>fail</result></dkim>
      <spf><domain>bounce.example</domain><result>pass</result></spf>
    </auth_results>
  </record>
  <record>
    <row>
      <source_ip>2001:db8::1</source_ip><count>3</count>
      <policy_evaluated><disposition>none</disposition><dkim>fail</dkim><spf>fail</spf>
        <reason><type>forwarded</type><comment>x</comment></reason></policy_evaluated>
    </row>
    <identifiers><envelope_from>a.example</envelope_from><header_from>clinic.example</header_from></identifiers>
    <auth_results><spf><domain>a.example</domain><result>none</result></spf></auth_results>
  </record>
</feedback>
"""
NEW = (
    OLD.replace("<feedback>", '<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">\n  <version>1.0</version>')
    .replace("<pct>100</pct>", "<np>reject</np><testing>n</testing><discovery_method>treewalk</discovery_method>")
    .encode()
)
OLD = OLD.encode()


def zipped(data, name="report.xml", **more):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
        for other, content in more.items():
            archive.writestr(other, content)
    return out.getvalue()


def mailed(data, subtype):
    message = EmailMessage()
    message["Subject"] = "Report Domain: clinic.example Submitter: mailbox.example Report-ID: <4711>"
    message.set_content("This is an aggregate report.")
    message.add_attachment(data, maintype="application", subtype=subtype, filename="report")
    return message.as_bytes()


@pytest.mark.parametrize(("data", "schema"), [(OLD, "rfc7489"), (NEW, "rfc9990")], ids=["7489", "9990"])
@pytest.mark.parametrize(
    "carry",
    [
        lambda data: data,
        gzip.compress,
        zipped,
        lambda data: mailed(gzip.compress(data), "gzip"),
        lambda data: mailed(zipped(data), "zip"),
        lambda data: mailed(data, "octet-stream"),
    ],
    ids=["xml", "gzip", "zip", "mailed-gzip", "mailed-zip", "mailed-xml"],
)
def test_a_report_is_read_however_it_comes(data, schema, carry):
    report = find_report(carry(data))
    assert (report.schema, report.reporter, report.report_id, report.domain) == (
        schema, "mailbox.example", "4711", "clinic.example",
    )  # fmt: skip
    assert (report.begin, report.end, report.policy["p"]) == (1772323200, 1772409599, "reject")
    assert (report.messages, report.passed) == (15, 12)
    first, second = report.records
    assert first.signed_by == (("clinic.example", "r2027", "pass"), ("list.example", "", "fail"))
    assert first.sent_by == (("bounce.example", "pass"),)
    assert (second.source, second.envelope_from, second.reasons) == ("2001:db8::1", "a.example", ("forwarded",))
    assert not second.passed


def test_mail_without_a_report_has_none():
    assert find_report(b"Subject: lunch\r\n\r\nNoon?\r\n") is None
    assert find_report(mailed(b"%PDF-1.7", "octet-stream")) is None


BOMB = b"<feedback>" + b" " * (3 << 20)
DOCTYPE = b'<?xml version="1.0"?><!DOCTYPE feedback [<!ENTITY a "b">]>' + OLD.split(b"?>", 1)[1]


@pytest.mark.parametrize(("data", "told"), [
    (gzip.compress(BOMB), "unfolds"), (zipped(BOMB), "unfolds"),
    (gzip.compress(OLD)[:-20], "ends early"), (b"\x1f\x8b\x08rubbish", "damaged"), (b"PK\x03\x04rubbish", "damaged"),
    (zipped(OLD, name="report.txt"), "one XML file"), (zipped(OLD, **{"b.xml": b""}), "one XML file"),
    (zipped(OLD, **{f"{n}.txt": b"" for n in range(20)}), "more than 10 files"),
    (DOCTYPE, "document type"), (OLD[:200], "not well-formed"), (b"<?xml version='1.0'?><rss/>", "not an aggregate"),
    (b"<feedback>" + b"<a>" * 40, "too deep"), (OLD.replace(b">12<", b">twelve<"), "count is not a number"),
    (OLD.replace(b"192.0.2.7", b"nowhere"), "not an IP address"),
    (OLD.replace(b"Clinic.example", b""), "not an aggregate"),
    (b" " * (MAX_MESSAGE + 1), "larger than"),
])  # fmt: skip
def test_bombs_and_what_is_no_report_are_refused(data, told):
    with pytest.raises(ReportError, match=told):
        find_report(data)


def test_an_encrypted_archive_is_refused():
    data = bytearray(zipped(OLD))
    data[6] |= 1
    place = data.index(b"PK\x01\x02")
    data[place + 8] |= 1
    with pytest.raises(ReportError, match="encrypted"):
        find_report(bytes(data))


@given(st.binary(max_size=300), st.integers(0, len(OLD)))
def test_no_bytes_do_more_than_refuse(junk, place):
    for data in (junk, OLD[:place] + junk + OLD[place:], b"\x1f\x8b" + junk, b"PK\x03\x04" + junk):
        try:
            find_report(data)
        except ReportError:
            continue


def test_records_are_bounded(monkeypatch):
    monkeypatch.setattr("relay.reputation.aggregate._MAX_RECORDS", 1)
    with pytest.raises(ReportError, match="more than 1 records"):
        read_report(OLD)


def test_the_verb_shows_reports_among_what_came_back(tmp_path):
    (tmp_path / "a.eml").write_bytes(mailed(gzip.compress(NEW), "gzip"))
    (tmp_path / "b.eml").write_bytes(mailed(gzip.compress(BOMB), "gzip"))
    result = CliRunner().invoke(main, ["bounce", "parse", str(tmp_path)])
    good, bad = (json.loads(line) for line in result.output.splitlines())
    assert (good["kind"], good["report"]["messages"], good["report"]["passed"]) == ("dmarc", 15, 12)
    assert (bad["kind"], "unfolds" in bad["fault"]) == ("dmarc", True)
    shown = CliRunner().invoke(main, ["bounce", "parse", str(tmp_path / "a.eml")]).output
    assert "dmarc (rfc9990)" in shown
    assert "12 of 15 messages passed" in shown
    assert "2001:db8::1" in shown


def test_a_message_that_costs_too_much_to_take_apart_is_refused():
    with pytest.raises(ReportError, match="too many parts"):
        find_report(laborious(lines=100_000, inside=200))


def test_a_field_in_a_place_of_another_changes_nothing():
    data = OLD.replace(b"<identifiers>", b"<identifiers><dkim>x</dkim><spf>x</spf><reason>x</reason><count>x</count>")
    assert read_report(data) == read_report(OLD)


@pytest.mark.parametrize("name", ["nonsense", "utf-7", "utf-32", "base64", "idna"])
def test_an_encoding_that_is_not_read_is_refused(name):
    with pytest.raises(ReportError, match="encoding"):
        find_report(OLD.replace(b"UTF-8", name.encode()))


def test_the_sum_of_all_counts_can_be_written_down():
    with pytest.raises(ReportError, match="count"):
        read_report(OLD.replace(b">12<", b">1000000000000<"))
    assert read_report(OLD.replace(b">12<", b">999999999999<")).messages * 100_000 < 2**63


def test_a_zone_is_no_part_of_a_source():
    with pytest.raises(ReportError, match="source_ip"):
        read_report(OLD.replace(b"2001:db8::1", b"fe80::1%Some One"))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_an_archive_that_unfolds_without_a_bound_is_refused(method):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("report.xml", OLD)
    with pytest.raises(ReportError, match="another way than deflate"):
        find_report(out.getvalue())


def test_an_archive_with_an_octet_changed_is_read_or_refused():
    whole = zipped(OLD, name="é.xml")
    for place in range(len(whole)):
        for octet in (0, 1, 0x80, 0xFF):
            changed = bytearray(whole)
            changed[place] = octet
            with contextlib.suppress(ReportError):
                find_report(bytes(changed))


def test_no_more_of_a_record_is_kept_than_is_shown():
    crowd = b"<dkim><domain>a.example</domain></dkim>" * 500 + b"<spf/>" * 500
    fields = b"".join(b"<f%d>x</f%d>" % (number, number) for number in range(500))
    report = read_report(
        OLD.replace(b"<auth_results>", b"<auth_results>" + crowd).replace(b"<adkim>", fields + b"<adkim>")
    )
    assert (len(report.records[0].signed_by), len(report.records[0].sent_by)) == (50, 50)
    assert len(report.policy) < 50
