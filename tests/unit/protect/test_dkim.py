"""Signatures that others verify: dkimpy and OpenDKIM are the oracles, over odd messages."""

import os
import re
import shutil
import subprocess

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protect.dkim import (
    OVERSIGNED,
    SignerSet,
    SigningKey,
    record_strings,
    record_text,
    relaxed_body,
    relaxed_value,
    sign,
)

DOMAIN = "clinic.example"
RSA = SigningKey(domain=DOMAIN, selector="rsa1", private=generate_private_key(65537, 2048))
ED = SigningKey(domain=DOMAIN, selector="ed1", private=Ed25519PrivateKey.generate())
RECORDS = {f"{key.record_name}.".encode(): record_text(key).encode() for key in (RSA, ED)}
PLAIN = b"From: Lab <lab@clinic.example>\r\nTo: bob@x.example\r\nSubject: hello\r\n\r\nHello.\r\n"

SHORT = """\
-----BEGIN RSA PRIVATE KEY-----
MIIBywIBAAJhALY2/mgMeTGrD97gORc2pdrkc+fzXjueWf7HnJ346u6WdTYsqHdF
/MsjQf6G72e5Ez/HB2qpgqDe19YvfXj5q9aVM33GtKPkELQEqeBhSN8pRZ0cjBmn
1xKwXO0y7mgv6wIDAQABAmEAqeAtYH24g2iynBu4vf6Rs7fmoymOAdEIn/Ii/lfx
VsvorMAHs2MJYa0WOqA8FBxC1ejF3WRrxafYJc2TOnRKiB/zYmbEKj66Nl3/gbjQ
On5y43YFgwISqBgwPta2TAWBAjEA3/4FGllx+b/DjEXI5sRlEf7bY7HALcHFqIkf
GbhcX9Dk9g82NcZlw/KDPI+QJzdBAjEA0ECw3o0OmocyB78wqfVmsYEdqeAIqktz
+LtXsZQ64ZZw9ckIEhSYNdZdOV0k/+grAjACh3e/SGtFCqlGmDMgh+8sONh5U7R7
z8hPktzLCY3hdxZewOU3zjmv8LkSofxatQECMCN6cedoRo2i7K4PL141FYq2AXS4
WyGP+zDr0bPKGgHmnFXzKrHR2mCJpZYpPS1vwwIxALXuajFUnnOayq6geL6SBbPS
qvXhM8Jiz/WuUk7Tehdq0kIu6yoc5pCiT81n+PvufA==
-----END RSA PRIVATE KEY-----
"""


def look_up(name, timeout=5):
    return RECORDS[name]


def verifies(signed: bytes, index: int) -> bool:
    return dkimpy.DKIM(signed).verify(idx=index, dnsfunc=look_up)


def as_sent(content: bytes) -> bytes:
    """What SMTP makes of it: the last line always ends (RFC 5321 section 4.1.1.4)."""
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def verifies_doubly(content: bytes) -> bool:
    signed = sign(content, (RSA, ED), at=1_700_000_000) + as_sent(content)
    return verifies(signed, 0) and verifies(signed, 1)


ODD = {
    "plain": PLAIN,
    "no body": b"From: a@clinic.example\r\n\r\n",
    "no empty line": b"From: a@clinic.example\r\nSubject: x\r\n",
    "no final CRLF": PLAIN + b"no end",
    "white space at the very end": PLAIN + b"no end \t ",
    "only empty lines": b"From: a@clinic.example\r\n\r\n\r\n\r\n\r\n",
    "only white space": b"From: a@clinic.example\r\n\r\n \r\n\t\r\n",
    "trailing empty lines": PLAIN + b"\r\n\r\n\r\n",
    "trailing white lines": PLAIN + b" \r\n\t\r\n  \r\n",
    "tabs": PLAIN + b"a\tb\t\tc \t d\t\r\n\te\r\n",
    "8-bit": b"From: a@clinic.example\r\nSubject: gr\xc3\xbc\xc3\x9fe\r\n\r\n\xff\xfe\x80\r\n",
    "folded": b"From: a@clinic.example\r\nSubject: one\r\n two\r\n\tthree\r\n \r\nTo:\r\n b@x.example\r\n\r\nx\r\n",
    "empty values": b"From: a@clinic.example\r\nSubject:\r\nTo: \r\nCc:\t\r\n\r\nx\r\n",
    "capitals": b"FROM: a@clinic.example\r\nSUBJECT: x\r\nto: x\r\n\r\nx\r\n",
    "two of each": b"From: a@clinic.example\r\nTo: 1@x\r\nReceived: by b\r\nTo: 2@x\r\nto: 3@x\r\n\r\nx\r\n",
    "resent and lists": b"Resent-From: a@b\r\nResent-From: c@d\r\nList-Id: <x.y>\r\nFrom: a@clinic.example\r\n\r\n",
    "colons": b"From: a@clinic.example\r\nSubject: a:b: c :d\r\n\r\nFrom: x\r\n",
    "dots": PLAIN + b".\r\n..\r\n.a\r\n",
    "long line": PLAIN + b"x" * 5000 + b"\r\n",
    "long header": b"From: a@clinic.example\r\nReferences:" + b"\r\n <1@x>" * 200 + b"\r\n\r\nx\r\n",
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_dkimpy_verifies_odd_messages(content):
    assert verifies_doubly(content)


WHITE = st.sampled_from([b" ", b"\t", b"  ", b" \t", b"\r\n ", b"\r\n\t", b" \r\n  "])
WORD = st.binary(min_size=1, max_size=12).map(lambda raw: re.sub(rb"[\s\x00:]", b"x", raw))
VALUE = st.lists(st.one_of(WHITE, WORD), max_size=8).map(b"".join)
NAMES = st.sampled_from(
    [b"To", b"cc", b"SUBJECT", b"Date", b"Message-ID", b"List-Id", b"X-Other", b"Resent-To", b"Received", b"Sender"]
)
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from([b":", b": ", b":\t"]), VALUE), max_size=8)
LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b" ", b"\t", b"  \t "]),
        WORD,
        st.binary(max_size=20).map(lambda b: b.replace(b"\r", b"x").replace(b"\n", b"y")),
    ),
    max_size=10,
)
BODY = st.tuples(LINES, st.sampled_from([b"", b"\r\n", b"\r\n\r\n", b" \r\n", b"\t"])).map(
    lambda x: b"\r\n".join(x[0]) + x[1]
)


@settings(max_examples=150, deadline=None)
@given(headers=HEADERS, body=BODY)
def test_dkimpy_verifies_any_message(headers, body):
    fields = [b"From: a@clinic.example", *(name + colon + value for name, colon, value in headers)]
    assert verifies_doubly(b"\r\n".join(fields) + b"\r\n\r\n" + body)


@given(body=BODY)
def test_the_body_is_canonicalised_as_dkimpy_does(body):
    from dkim.canonicalization import Relaxed

    assert relaxed_body(body) == Relaxed.canonicalize_body(as_sent(body) if body else body)


ENDS = st.sampled_from([b"\r\n", b" \r\n", b"\n\r", b"x\r\n"])
MANY = st.sampled_from([15, 16, 17, 18, 255, 256, 257, 258, 16_383, 16_384, 16_385, 16_386, 33_000])
WHITES = st.sampled_from([b" ", b"\t", b"\r", b"\n", b"\r\n", b"x"])
RUN = st.one_of(st.tuples(ENDS, MANY), st.tuples(WHITES, st.integers(0, 20)))
LONG = st.lists(RUN, max_size=4).map(lambda runs: b"".join(one * count for one, count in runs))


@settings(max_examples=100, deadline=None)
@given(body=LONG)
def test_a_body_of_many_empty_lines_is_canonicalised_as_dkimpy_does(body):
    from dkim.canonicalization import Relaxed

    assert relaxed_body(body) == Relaxed.canonicalize_body(as_sent(body) if body else body)


class Counted(bytes):
    """Counts how often its end is looked at."""

    looks = 0

    def endswith(self, *what):
        self.looks += 1
        return super().endswith(*what)


@pytest.mark.parametrize("lines", [4_000_000, 3_999_999, 16_384 + 256 + 16 + 1, 255])
def test_millions_of_empty_lines_are_taken_away_in_few_steps(lines):
    body = Counted(b"x\r\n" + b"\r\n" * lines)
    assert relaxed_body(body) == b"x\r\n"
    assert 4 <= body.looks < 400


@given(body=BODY, value=VALUE)
def test_canonical_forms_stay_as_they_are(body, value):
    assert relaxed_body(relaxed_body(body)) == relaxed_body(body)
    assert relaxed_value(relaxed_value(value)) == relaxed_value(value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Hello.", b"Hello!"),
        (b"Subject: hello", b"Subject: hallo"),
        (b"To: bob", b"To: eve"),
        (b"Subject:", b"Subject: first\r\nSubject:"),
        (b"To:", b"From: eve@x.example\r\nTo:"),
        (b"To:", b"Reply-To: eve@x.example\r\nTo:"),
        (b"To:", b"Content-Type: text/html\r\nTo:"),
        (b"Hello.\r\n", b"Hello.\r\nMore.\r\n"),
    ],
)
def test_a_changed_or_widened_message_does_not_verify(old, new):
    signed = sign(PLAIN, (RSA, ED), at=1) + PLAIN
    changed = signed.replace(b"\r\n" + old, b"\r\n" + new, 1)
    assert changed != signed
    for index in (0, 1):
        try:
            assert not verifies(changed, index)
        except dkimpy.ValidationError:
            continue


def test_the_header_says_what_the_standards_ask_for():
    header = sign(PLAIN, (RSA, ED), at=1_700_000_000.9)
    assert max(len(line) for line in header.split(b"\r\n")) <= 78
    assert header.count(b"DKIM-Signature:") == 2
    tags = dict(re.findall(rb"\s([a-z]+)=([^;]*)", header.split(b"DKIM-Signature:")[1]))
    assert tags[b"a"] == b"rsa-sha256"
    assert tags[b"c"] == b"relaxed/relaxed"
    assert tags[b"t"] == b"1700000000"
    assert b"l" not in tags
    names = re.sub(rb"\s", b"", tags[b"h"]).split(b":")
    for name in OVERSIGNED:
        assert names.count(name) == PLAIN.lower().count(b"\r\n" + name + b":") + (name == b"from") + 1


def test_nobody_signs_nothing():
    assert sign(PLAIN, (), at=1) == b""


def test_a_short_rsa_key_is_refused():
    with pytest.raises(ValueError, match="too short"):
        SigningKey(domain=DOMAIN, selector="s", private=load_pem_private_key(SHORT.encode(), None))


@pytest.mark.parametrize("key", [RSA, ED], ids=["rsa", "ed25519"])
def test_records_fit_into_txt_strings(key):
    strings = record_strings(record_text(key))
    assert "".join(strings) == record_text(key)
    assert all(len(text) <= 255 for text in strings)


# --- who signs ------------------------------------------------------------


def key_of(domain, selector, *, start=0.0, end=None, like=ED):
    return SigningKey(domain=domain, selector=selector, private=like.private, active_from=start, active_until=end)


def chosen(selection):
    return [key.selector for key in selection.keys]


def test_both_algorithms_of_the_authors_domain_sign():
    selection = SignerSet([ED, RSA]).select(DOMAIN, now=5)
    assert chosen(selection) == ["rsa1", "ed1"]
    assert selection.aligned
    assert not selection.reason


def test_a_parent_signs_for_its_subdomain_and_never_the_other_way():
    signers = SignerSet([ED])
    assert chosen(signers.select("lab.north.clinic.example", now=5)) == ["ed1"]
    assert signers.select("lab.clinic.example", now=5).aligned
    assert not signers.select("example", now=5).keys
    assert not signers.select("evilclinic.example", now=5).keys


def test_the_nearest_domain_signs():
    signers = SignerSet([ED, key_of("lab.clinic.example", "lab")])
    assert chosen(signers.select("x.lab.clinic.example", now=5)) == ["lab"]


def test_rotation_overlaps():
    old, new = key_of(DOMAIN, "old", end=200), key_of(DOMAIN, "new", start=100)
    signers = SignerSet([new, old])
    assert [chosen(signers.select(DOMAIN, now=now)) for now in (50, 100, 150, 200, 300)] == [["old"], *[["new"]] * 4]


def test_an_expired_subdomain_key_falls_back_to_the_parent():
    signers = SignerSet([ED, key_of("lab.clinic.example", "lab", end=10)])
    assert chosen(signers.select("lab.clinic.example", now=11)) == ["ed1"]


def test_the_policys_identity_comes_first():
    signers = SignerSet([ED, key_of("mail.example", "m")])
    selection = signers.select(DOMAIN, now=5, sign_as="mail.example")
    assert chosen(selection) == ["m"]
    assert not selection.aligned
    assert "not aligned" in selection.reason


def test_without_a_key_for_the_policys_identity_the_author_signs_and_says_so():
    selection = SignerSet([ED]).select(DOMAIN, now=5, sign_as="other.example")
    assert chosen(selection) == ["ed1"]
    assert "other.example" in selection.reason


def test_the_default_signs_for_strangers():
    signers = SignerSet([ED], default=DOMAIN)
    selection = signers.select("stranger.example", now=5)
    assert chosen(selection) == ["ed1"]
    assert not selection.aligned
    assert chosen(signers.select("", now=5)) == ["ed1"]


def test_nobody_signs_without_a_key():
    headers, selection = SignerSet([]).sign(PLAIN, author_domain=DOMAIN, now=5)
    assert headers == b""
    assert selection.keys == ()
    assert DOMAIN in selection.reason


# --- OpenDKIM -------------------------------------------------------------


def opendkim() -> str:
    path = shutil.which("opendkim", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or ""
    if not path:
        if os.environ.get("POSTERN_REQUIRE_PEERS") == "1":
            pytest.fail("opendkim is missing (Debian package opendkim)")
        pytest.skip("opendkim is missing (Debian package opendkim)")
    return path


def opendkim_says(directory, content: bytes) -> str:
    (directory / "message").write_bytes(content)
    (directory / "keys").write_bytes(b"\n".join(name[:-1] + b" " + text for name, text in RECORDS.items()) + b"\n")
    config = directory / "opendkim.conf"
    config.write_text(f"TestPublicKeys {directory}/keys\nSyslog no\nMode v\nBaseDirectory {directory}\n")
    command = [opendkim(), "-x", str(config), "-t", str(directory / "message"), "-v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.peers
@pytest.mark.parametrize("name", sorted(ODD))
def test_opendkim_verifies(name, tmp_path):
    content = ODD[name]
    assert "succeeded" in opendkim_says(tmp_path, sign(content, (RSA,), at=1_700_000_000) + as_sent(content))


@pytest.mark.peers
def test_opendkim_finds_a_change(tmp_path):
    signed = sign(PLAIN, (RSA,), at=1_700_000_000) + PLAIN.replace(b"Hello", b"Hallo")
    assert "failed" in opendkim_says(tmp_path, signed)
