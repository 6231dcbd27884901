"""Every condition on facts that meet it and facts that just do not."""

from dataclasses import replace

import pytest

from relay.core.address import Address
from relay.core.envelope import Attachment, ClientSession
from relay.core.errors import ProblemsError
from relay.core.phi import FindingGroup, Phi
from tests.support.policies import NOW, compile_text, facts, finding, one_rule, rule_for

EHR = ClientSession(client="ehr-1", tenant="elm", listener="relay", network="10.1.2.3", identity="ehr@elm")
PDF = Attachment(type="pdf", name="Letter.PDF", size=2048)
LOCKED = Attachment(type="zip", name="scan.zip", size=10, unreadable="encrypted")
PNG = Attachment(type="image/png", name="", size=1)
SHUT = Attachment(type="pdf", name="", size=1, unreadable="password")
HIV = finding("hiv-test", sensitive="hiv")
SSN = finding("ssn", FindingGroup.IDENTIFIER)
MIDNIGHT = NOW - (8 * 60 + 45) * 60
TIMEOUT = finding("unreadable: timeout", FindingGroup.UNREADABLE)

CASES = [
    ("{ client: { name: ehr-1 } }", {"session": EHR}, {"session": ClientSession(client="ehr-10")}),
    ("{ client: { name: [lab, ehr-1], tenant: elm } }", {"session": EHR}, {"session": ClientSession(client="ehr-1")}),
    ("{ client: { identity: ehr@elm } }", {"session": EHR}, {}),
    ("{ client: { listener: relay } }", {"session": EHR}, {"session": ClientSession(listener="submission")}),
    ("{ client: { network: 10.1.0.0/16 } }", {"session": EHR}, {"session": ClientSession(network="10.2.0.1")}),
    ("{ client: { network: 10.1.0.0/16 } }", {"session": ClientSession(network="::ffff:10.1.0.9")}, {}),
    ('{ client: { network: "2001:db8::/32" } }', {"session": ClientSession(network="2001:db8::1")}, {"session": EHR}),
    ("{ client: { network: [10.2.0.0/16, 10.1.2.3] } }", {"session": EHR}, {"session": ClientSession()}),
    ("{ sender: { address: EHR@clinic.example } }", {}, {"sender": "ehr@other.example"}),
    ("{ sender: { domain: clinic.example } }", {"sender": "x@CLINIC.example"}, {"sender": ""}),
    ("{ sender: { domain: clinic.example, address: a@clinic.example } }", {"sender": "a@clinic.example"}, {}),
    ("{ sender: { address: ehr@clinic.example } }", {}, {"sender": ""}),
    ("{ recipient: { address: [pat@mail.example] } }", {"to": "Pat@MAIL.example"}, {"to": "pad@mail.example"}),
    ("{ recipient: { domain: mail.example } }", {}, {"to": "pat@sub.mail.example"}),
    ('{ recipient: { domain: "*.mail.example" } }', {"to": "a@x.y.mail.example"}, {"to": "a@mail.example"}),
    ('{ recipient: { domain: "*.mail.example" } }', {"to": "a@x.mail.example"}, {"to": "a@notmail.example"}),
    ("{ recipient: { domain: bücher.example } }", {"to": "a@xn--bcher-kva.example"}, {"to": "a@bucher.example"}),
    ("{ recipient: { domain: xn--bcher-kva.example } }", {"to": "a@BÜCHER.example"}, {}),
    ('{ subject: { tag: "[secure]" } }', {"subject": "Fw: [SeCure] x"}, {"subject": "secure x"}),
    ("{ subject: { tag: encrypt } }", {"subject": "Encrypt: x"}, {"subject": "unencrypted"}),
    ("{ subject: { tag: encrypt } }", {"subject": "please (encrypt)"}, {"subject": "encrypts"}),
    ("{ subject: { tag: encrypt } }", {"subject": "x encrypt"}, {"subject": "reencrypt now"}),
    ("{ subject: { tag: +encrypt } }", {"subject": "x+encrypt y"}, {"subject": "+encrypted"}),
    ("{ subject: { tag: 'phi:' } }", {"subject": "phi:x"}, {"subject": "graphi: x"}),
    ("{ subject: { tag: '[a.b]' } }", {"subject": "x[a.b]y"}, {"subject": "[axb]"}),
    ("{ subject: { matches: '^res.?lt' } }", {"subject": "result"}, {"subject": "Result"}),
    ("{ subject: { matches: '(?i)strasse|straße' } }", {"subject": "STRASSE 1"}, {"subject": "a road"}),
    ("{ header: { name: x-class, contains: [TOP] } }", {"headers": [("x-class", "a"), ("X-Class", "stop")]}, {}),
    ("{ header: { name: X-C, matches: '^a$' } }", {"headers": [("x-c", "a")]}, {"headers": [("x-c", "aa")]}),
    ("{ header: { name: X-C, contains: [a, b] } }", {"headers": [("x-c", "b")]}, {"headers": [("x-c", "c")]}),
    ("{ header: { name: X-C, matches: [^a, ^b] } }", {"headers": [("x-c", "b")]}, {"headers": [("x-c", "c")]}),
    ("{ header: { name: X-C, matches: ^a, contains: z } }", {"headers": [("x-c", "az")]}, {"headers": [("x-c", "ab")]}),
    ("{ header: { name: List-Id, present: true } }", {"headers": [("list-id", "")]}, {}),
    ("{ header: { name: List-Id, present: false } }", {}, {"headers": [("list-id", "x")]}),
    ("{ size: { over: 1KiB } }", {"size": 1025}, {"size": 1024}),
    ("{ size: { over: 1KiB, under: 2KiB } }", {"size": 2047}, {"size": 2048}),
    ("{ phi: likely }", {"phi": Phi.LIKELY}, {"phi": Phi.POSSIBLE}),
    ("{ phi: likely }", {"phi": Phi.CERTAIN}, {}),
    ("{ subject_phi: possible }", {"subject_phi": Phi.POSSIBLE}, {"phi": Phi.CERTAIN}),
    ("{ finding: { kind: ssn } }", {"findings": [SSN]}, {"findings": [HIV]}),
    ("{ finding: { kind: health } }", {"findings": [HIV]}, {"findings": [SSN]}),
    ("{ finding: { kind: identifier, count: 2 } }", {"findings": [SSN, SSN]}, {"findings": [SSN, HIV]}),
    ("{ finding: { kind: [ssn, health], count: 3 } }", {"findings": [SSN, SSN, HIV]}, {"findings": [SSN, HIV]}),
    ("{ finding: { kind: [ssn, identifier], count: 2 } }", {"findings": [SSN, SSN]}, {"findings": [SSN]}),
    ("{ finding: { kind: ssn, count: 3 } }", {"findings": [replace(SSN, more=2)]}, {"findings": [SSN, SSN]}),
    ("{ finding: { kind: health, count: 2 } }", {"findings": [HIV, finding()]}, {"findings": [replace(SSN, more=5)]}),
    ("{ finding: { sensitive: hiv } }", {"findings": [HIV]}, {"findings": [SSN]}),
    ("{ finding: { sensitive: any, kind: health } }", {"findings": [HIV]}, {"findings": [finding()]}),
    ("{ finding: { kind: unreadable } }", {"findings": [TIMEOUT]}, {"findings": [SSN]}),
    ("{ finding: { kind: genetic } }", {"truncated": True, "findings": [SSN]}, {"findings": [SSN]}),
    ("{ attachment: { type: pdf } }", {"attachments": [PDF]}, {"attachments": [LOCKED]}),
    ("{ attachment: { name: '*.pdf' } }", {"attachments": [PDF]}, {"attachments": [LOCKED]}),
    ("{ attachment: { name: 'letter.?df' } }", {"attachments": [PDF]}, {"attachments": [LOCKED]}),
    ("{ attachment: { name: 'letter?' } }", {"attachments": [replace(PDF, name="letter1")]}, {"attachments": [PDF]}),
    ("{ attachment: { type: 'image/*' } }", {"attachments": [PNG]}, {"attachments": [PDF]}),
    ("{ attachment: { type: [zip, pdf] } }", {"attachments": [PDF]}, {"attachments": [PNG]}),
    ("{ attachment: { name: ['*.zip', '*.pdf'] } }", {"attachments": [PDF]}, {"attachments": [PNG]}),
    ("{ attachment: { size: { under: 1KiB } } }", {"attachments": [LOCKED]}, {"attachments": [PDF]}),
    ("{ attachment: { unreadable: false } }", {"attachments": [LOCKED, PDF]}, {"attachments": [LOCKED]}),
    ("{ attachment: { unreadable: false } }", {"attachments": [PDF], "findings": [TIMEOUT]}, {"findings": [TIMEOUT]}),
    ("{ attachment: { unreadable: true, name: '*.zip' } }", {"attachments": [LOCKED]}, {"findings": [TIMEOUT]}),
    ("{ attachment: { unreadable: true, size: { over: 5B } } }", {"attachments": [LOCKED]}, {"attachments": [SHUT]}),
    ("{ attachment: { size: { over: 1KiB } } }", {"attachments": [PDF]}, {"attachments": [LOCKED]}),
    ("{ attachment: { unreadable: true } }", {"attachments": [PDF, LOCKED]}, {"attachments": [PDF]}),
    ("{ attachment: { unreadable: true } }", {"findings": [TIMEOUT]}, {}),
    ("{ attachment: { unreadable: true, type: pdf } }", {"attachments": [SHUT]}, {"attachments": [PDF, LOCKED]}),
    ("{ stream: bulk }", {"stream": "bulk"}, {}),
    ("{ time: { days: mon } }", {"received_at": NOW}, {"received_at": NOW + 86400}),
    ("{ time: { hours: 08:00-09:00 } }", {"received_at": NOW}, {"received_at": NOW + 900}),
    ("{ time: { hours: 09:30-10:00, zone: Europe/Berlin } }", {"received_at": NOW}, {"received_at": NOW + 900}),
    ("{ time: { days: [sun], hours: 18:00-09:00 } }", {"received_at": NOW}, {"received_at": NOW + 43200}),
    ("{ time: { days: mon } }", {"received_at": MIDNIGHT}, {"received_at": MIDNIGHT - 1}),
    ("{ time: { days: mon } }", {"received_at": MIDNIGHT + 86399}, {"received_at": MIDNIGHT + 86400}),
    ("{ time: { hours: 08:45-08:46 } }", {"received_at": NOW}, {"received_at": NOW + 60}),
    ("{ time: { hours: 08:46-08:50 } }", {"received_at": NOW + 60}, {"received_at": NOW}),
    ("{ time: { days: mon, hours: 18:00-09:00 } }", {"received_at": MIDNIGHT + 18 * 3600}, {"received_at": NOW}),
    ("{ time: { days: mon, hours: 18:00-09:00 } }", {"received_at": NOW + 86400}, {"received_at": NOW + 87300}),
    ("{ time: { days: mon, hours: 18:00-08:59 } }", {"received_at": NOW + 87180}, {"received_at": NOW + 87240}),
    ("{ time: { days: mon, hours: 18:00-09:00 } }", {"received_at": NOW + 43200}, {"received_at": NOW + 33240}),
    ("{ all: [ { phi: likely }, { stream: bulk } ] }", {"phi": Phi.LIKELY, "stream": "bulk"}, {"phi": Phi.LIKELY}),
    ("{ any: [ { phi: likely }, { stream: bulk } ] }", {"stream": "bulk"}, {}),
    ("{ not: { stream: bulk } }", {}, {"stream": "bulk"}),
]  # fmt: skip


@pytest.mark.parametrize(("when", "meets", "misses"), CASES, ids=[case[0] for case in CASES])
def test_a_condition_holds_for_what_it_says_and_for_nothing_beside_it(when, meets, misses):
    policy = one_rule(when)
    assert rule_for(policy, **meets) == "hit"
    assert rule_for(policy, **misses) == "rest"


LISTS = """lists:
  partners: [mercy.example, "*.labnet.example", chief@firm.example]
  people: { builtin: consumer-mailbox-providers }
  consented: { file: consented.csv }
"""
CSV = """# a note
address,clinic,date,expiry
pat@mail.example,,2026-01-05,
Old@mail.example,,2024-01-05,2026-03-01
today@mail.example,,2024-01-05,2026-03-02
elm@mail.example,Elm,2026-01-05,
*.family.example,clinic.example,2026-01-05,
"""


def listed(when):
    return one_rule(when, head=LISTS, csv={"consented": CSV})


@pytest.mark.parametrize(
    ("when", "to", "hit"),
    [
        ("{ recipient: { in: partners } }", "a@mercy.example", True),
        ("{ recipient: { in: partners } }", "a@x.mercy.example", False),
        ("{ recipient: { in: partners } }", "a@b.c.labnet.example", True),
        ("{ recipient: { in: partners } }", "a@labnet.example", False),
        ("{ recipient: { in: partners } }", "Chief@firm.example", True),
        ("{ recipient: { in: partners } }", "other@firm.example", False),
        ("{ recipient: { domain: { in: partners } } }", "chief@firm.example", False),
        ("{ recipient: { domain: { in: [partners, people] } } }", "a@gmail.com", True),
        ("{ recipient: { domain: { in: people, is: own.example } } }", "a@own.example", True),
        ("{ recipient: { in: consented } }", "PAT@mail.example", True),
        ("{ recipient: { in: consented } }", "old@mail.example", False),
        ("{ recipient: { in: consented } }", "today@mail.example", True),
        ("{ recipient: { in: consented } }", "elm@mail.example", False),
        ("{ recipient: { in: consented } }", "a@the.family.example", True),
        ("{ recipient: { domain: { near: people } } }", "a@gmial.com", True),
        ("{ recipient: { domain: { near: people } } }", "a@gmail.com", False),
        ("{ recipient: { domain: { near: people } } }", "a@gmail.co", True),
        ("{ recipient: { domain: { near: people } } }", "a@potonml.com", False),
        ("{ recipient: { domain: { near: people } } }", "a@protnmial.com", True),
        ("{ recipient: { domain: { near: people } } }", "a@ge.com", False),
        ("{ recipient: { domain: { near: people } } }", "a@mail.example", False),
    ],
)
def test_lists(when, to, hit):
    assert rule_for(listed(when), to=to) == ("hit" if hit else "rest")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("{ client: { network: clinic } }", "is not an IP address or network"),
        ("{ time: { hours: 09:00-09:00 } }", "no time lies between these hours"),
    ],
)
def test_a_condition_that_nothing_could_meet_is_refused(when, told):
    with pytest.raises(ProblemsError, match=told):
        one_rule(when)


def test_mail_without_a_sender_is_in_no_list():
    policy = listed("{ sender: { in: partners } }")
    assert rule_for(policy, sender="x@mercy.example") == "hit"
    assert rule_for(policy, sender="") == "rest"


@pytest.mark.parametrize(
    ("header", "missed"),
    [
        ("address,clinic,date,expires", ["expiry"]),
        ("address,Clinics,date,Expiry date", ["clinic", "expiry"]),
        ("address,clinic,expiry,expired by", []),
        ("address,note", []),
    ],
)
def test_a_column_that_is_called_much_like_one_that_binds_is_told_of(header, missed):
    policy = one_rule("{ recipient: { in: l } }", head="lists: { l: { file: l.csv } }", csv={"l": f"{header}\n"})
    assert [one.what.split("`")[1] for one in policy.warnings] == missed
    assert all(one.where == "l.csv:1" for one in policy.warnings)


def test_the_day_it_is_somewhere_already_does_not_lie_in_the_future():
    csv, evening = {"l": "address,date\npat@mail.example,2026-03-02\n"}, 1_772_400_000.0  # 2026-03-01 21:20 UTC
    policy = one_rule("{ recipient: { in: l } }", head="lists: { l: { file: l.csv } }", csv=csv, now=evening)
    assert rule_for(policy, to="pat@mail.example") == "hit"
    with pytest.raises(ProblemsError, match="lies in the future"):
        one_rule("{ recipient: { in: l } }", head="lists: { l: { file: l.csv } }", csv=csv, now=evening - 43_200)


def test_a_row_bound_to_a_clinic_counts_for_that_clinics_mail_only():
    policy = listed("{ recipient: { in: consented } }")
    assert rule_for(policy, to="elm@mail.example", session=ClientSession(tenant="ELM")) == "hit"
    assert rule_for(policy, to="elm@mail.example", session=ClientSession(tenant="oak")) == "rest"
    assert rule_for(policy, to="a@the.family.example", sender="x@elsewhere.example") == "rest"


def test_a_row_stops_counting_while_the_policy_runs():
    policy = listed("{ recipient: { in: consented } }")
    assert rule_for(policy, to="today@mail.example", received_at=NOW) == "hit"
    assert rule_for(policy, to="today@mail.example", received_at=NOW + 86400) == "rest"
    assert rule_for(policy, to="old@mail.example", received_at=0.0) == "rest", "mail with an old date wakes no old row"


def test_the_floor_condition_sees_the_floors_of_this_copy_even_when_set_aside():
    policy = compile_text(
        "policy: p\n"
        "floor: [ { id: f, when: { recipient: { domain: mail.example } }, require: verified, overridable: true } ]\n"
        "rules:\n"
        "  - { id: hit, when: { floor: f }, deliver: { tls: encrypted },"
        " override: { floors: f, reason: 'it is agreed so' } }\n"
        "  - { id: rest, deliver: {} }\n"
    )
    decision = policy.decide(facts(), Address.parse("pat@mail.example"))
    assert (decision.treatment.rule, decision.treatment.floor.word) == ("hit", "encrypted")
    assert rule_for(policy, to="pat@other.example") == "rest"


def test_answers_for_one_message_are_never_given_for_another():
    policy = one_rule("{ subject: { matches: result } }")
    for subject, rule in (("result", "hit"), ("other", "rest"), ("result", "hit")):
        assert rule_for(policy, subject=subject) == rule
