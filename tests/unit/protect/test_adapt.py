"""A message fitted to its peer says what it said: the content of every part is unchanged."""

import email
import email.policy
from email.header import decode_header, make_header

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.outcome import Failure, PeerFeatures, Stage, Trouble
from relay.core.reply import EnhancedStatus
from relay.delivery.trouble import disposition
from relay.mail.adapt import MAX_LINE, Impossible, adapt, has_long_line, to_base64, to_quoted_printable

OLD = PeerFeatures()
MODERN = PeerFeatures(eight_bit_mime=True, smtputf8=True)
NO_UTF8 = PeerFeatures(eight_bit_mime=True)
TEXT = (
    b"From: a@clinic.example\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)


def leaves(content: bytes):
    """Every leaf's type and decoded octets, as the standard library reads them."""
    message = email.message_from_bytes(content)
    return [
        (part.get_content_type(), part.get_payload(decode=True)) for part in message.walk() if not part.is_multipart()
    ]


def is_sendable(content: bytes, features: PeerFeatures) -> bool:
    lines = content.split(b"\r\n")
    return max(map(len, lines)) <= MAX_LINE and (features.eight_bit_mime or content.isascii())


def part(kind: bytes, body: bytes, extra: bytes = b"") -> bytes:
    return b"Content-Type: " + kind + b"\r\n" + extra + b"\r\n" + body


def multipart(kind: bytes, boundary: bytes, *parts: bytes, preamble: bytes = b"", epilogue: bytes = b"\r\n") -> bytes:
    inner = b"".join(b"\r\n--" + boundary + b"\r\n" + piece for piece in parts)
    head = b"Content-Type: multipart/" + kind + b'; boundary="' + boundary + b'"\r\n\r\n'
    return head + preamble + inner + b"\r\n--" + boundary + b"--" + epilogue


def message(entity: bytes) -> bytes:
    return b"From: a@clinic.example\r\nMIME-Version: 1.0\r\n" + entity


@pytest.mark.parametrize("features", [OLD, MODERN, NO_UTF8])
def test_what_fits_comes_back_as_the_same_object(features):
    plain = b"From: a@clinic.example\r\n\r\n" + b"x" * 998 + b"\r\n" + b"short\r\n" * 500
    assert adapt(plain, features) is plain


@pytest.mark.parametrize("features", [MODERN, NO_UTF8])
def test_8_bit_goes_as_it_is_where_the_peer_takes_it(features):
    content = TEXT + "Grüße\r\n".encode()
    assert adapt(content, features) is content


def test_8_bit_text_becomes_quoted_printable_for_an_old_peer():
    content = TEXT + "Grüße = \r\n.\r\n".encode()
    adapted = adapt(content, OLD)
    assert adapted == TEXT.replace(b"8bit", b"quoted-printable") + b"Gr=C3=BC=C3=9Fe =3D=20\r\n=2E\r\n"


def test_attachments_become_base64():
    content = message(part(b"image/png", b"\x89PNG\xff\xfe", b"Content-Transfer-Encoding: binary\r\n"))
    adapted = adapt(content, OLD)
    assert b"Content-Transfer-Encoding: base64\r\n" in adapted
    assert leaves(adapted) == [("image/png", b"\x89PNG\xff\xfe")]


@pytest.mark.parametrize("features", [OLD, MODERN])
@pytest.mark.parametrize("encoding", [b"7bit", b"quoted-printable", b"base64"])
def test_long_lines_are_wrapped_for_everyone(features, encoding):
    body = {b"7bit": b"x" * 5000, b"quoted-printable": b"x=3D" * 900, b"base64": b"eHh4" * 900}[encoding]
    content = message(part(b"text/plain", body, b"Content-Transfer-Encoding: " + encoding + b"\r\n"))
    adapted = adapt(content, features)
    assert is_sendable(adapted, features)
    assert leaves(adapted) == leaves(content)


def test_text_without_a_charset_gets_the_one_it_is_in():
    bare = b"From: a@clinic.example\r\n\r\n"
    adapted = adapt(bare + "Grüße\r\n".encode(), OLD)
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in adapted
    assert b"MIME-Version: 1.0\r\n" in adapted
    assert b"charset=unknown-8bit" in adapt(bare + b"\xfc\r\n", OLD)
    named = message(part(b"text/html; format=flowed", b"\xc3\xbc\r\n"))
    assert b"Content-Type: text/html; format=flowed; charset=utf-8\r\n" in adapt(named, OLD)


def test_multiparts_are_walked_and_relabelled():
    inner = multipart(b"alternative", b"in", part(b"text/plain", "ü".encode()), part(b"text/html", b"<p>x</p>"))
    entity = multipart(
        b"mixed", b"out", b"Content-Transfer-Encoding: 8bit\r\n" + inner, part(b"application/pdf", b"\xff" * 50)
    )
    content = message(b"Content-Transfer-Encoding: 8bit\r\n" + entity)
    adapted = adapt(content, OLD)
    assert is_sendable(adapted, OLD)
    assert b"8bit" not in adapted
    assert part(b"text/html", b"<p>x</p>") in adapted
    assert leaves(adapted) == leaves(content)


def test_messages_inside_are_walked():
    forwarded = part(b"message/rfc822", TEXT + "Grüße\r\n".encode(), b"Content-Transfer-Encoding: 8bit\r\n")
    content = message(multipart(b"digest", b"b", forwarded, b"\r\n" + TEXT + b"\xc3\xbc\r\n"))
    adapted = adapt(content, OLD)
    assert is_sendable(adapted, OLD)
    assert leaves(adapted) == leaves(content)


def test_a_preamble_that_does_not_fit_is_left_out():
    content = message(multipart(b"mixed", b"b", part(b"text/plain", b"x"), preamble=b"\xff", epilogue=b"\r\n\xfe\r\n"))
    adapted = adapt(content, OLD)
    assert adapted.isascii()
    assert leaves(adapted) == leaves(content)


@pytest.mark.parametrize("kind", [b'signed; protocol="application/pgp-signature"', b"encrypted"])
@pytest.mark.parametrize("body", [b"\xc3\xbc", b"x" * 999])
def test_what_is_signed_or_encrypted_is_never_touched(kind, body):
    entity = multipart(kind, b"s", part(b"text/plain", body), part(b"application/pgp-signature", b"sig"))
    for content in (message(entity), message(multipart(b"mixed", b"o", entity, part(b"text/plain", b"x")))):
        refused = adapt(content, OLD)
        assert isinstance(refused, Impossible)
        assert refused.status == "5.6.2"


def test_a_signed_part_that_fits_stays_while_its_sibling_is_converted():
    signed = multipart(b"signed", b"s", part(b"text/plain", b"x"), part(b"application/pkcs7-signature", b"sig"))
    content = message(multipart(b"mixed", b"o", signed, part(b"text/plain", b"\xc3\xbc")))
    adapted = adapt(content, OLD)
    assert signed in adapted
    assert adapted.isascii()


@pytest.mark.parametrize(
    "entity",
    [
        part(b"text/plain", b"\xff", b"Content-Transfer-Encoding: x-uuencode\r\n"),
        part(b"multipart/mixed", b"\xff"),
        part(b"multipart/mixed; boundary=b", b"\xff"),
        part(b"message/partial; id=x", b"\xff"),
        part(b"application/pdf", b"!" * 1200, b"Content-Transfer-Encoding: base64\r\n"),
    ],
)
def test_what_cannot_be_converted_says_so(entity):
    refused = adapt(message(entity), OLD)
    assert isinstance(refused, Impossible)
    assert refused.status == "5.6.3"


def test_bottomless_nesting_ends():
    entity = part(b"text/plain", b"\xff")
    for level in range(80):
        entity = multipart(b"mixed", b"b%d" % level, entity)
    assert isinstance(adapt(message(entity), OLD), Impossible)


# --- headers --------------------------------------------------------------


def decoded(content: bytes, name: str) -> str:
    return str(email.message_from_bytes(content, policy=email.policy.default)[name])


@pytest.mark.parametrize("features", [OLD, NO_UTF8])
def test_raw_8_bit_headers_become_encoded_words(features):
    content = (
        'From: "Jörg, Dr." <j@clinic.example>, Zoë <z@x.example>\r\nSubject: Über\r\nCc: a@b.example (ö)\r\n\r\nx\r\n'
    )
    adapted = adapt(content.encode(), features)
    assert adapted.isascii()
    assert decoded(adapted, "Subject") == "Über"
    assert [
        a.display_name for a in email.message_from_bytes(adapted, policy=email.policy.default)["From"].addresses
    ] == [
        "Jörg, Dr.",
        "Zoë",
    ]
    assert b"<j@clinic.example>" in adapted


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("=?iso-8859-1?q?J=F6rg?= Müller", "Jörg Müller"),
        ("=?utf-8?q?a=0D=0AB?= Müller", "=?utf-8?q?a=0D=0AB?= Müller"),  # no line end comes out of a word
    ],
)
def test_a_name_that_is_half_encoded_already_is_encoded_once(name, shown):
    adapted = adapt(f"From: {name} <joerg@clinic.example>\r\n\r\nx\r\n".encode(), OLD)
    assert adapted.isascii()
    assert decoded(adapted, "From") == f"{shown} <joerg@clinic.example>"
    assert email.message_from_bytes(adapted).keys() == ["From"]


def test_latin_1_headers_are_read_as_such():
    adapted = adapt(b"Subject: \xdcber\r\n\r\nx\r\n", OLD)
    assert decoded(adapted, "Subject") == "Über"


def test_file_names_take_the_extended_form():
    content = (
        'From: a@b.example\r\nContent-Disposition: attachment; filename="Größe 1.pdf"; size=3\r\n\r\nx\r\n'.encode()
    )
    adapted = adapt(content, OLD)
    assert adapted.isascii()
    assert email.message_from_bytes(adapted, policy=email.policy.default).get_filename() == "Größe 1.pdf"
    assert b"size=3" in adapted


def test_utf8_headers_go_as_they_are_under_smtputf8():
    content = "From: Jörg <jörg@clinic.example>\r\n\r\nx\r\n".encode()
    assert adapt(content, MODERN, smtputf8=True) is content


@pytest.mark.parametrize(
    ("field", "filename"),
    [
        ('text/html; name="Überweisung.html"', "Überweisung.html"),
        (f'text/html; name="{"ü" * 400}"', None),  # no line holds it in the extended form
        ("text/html; für=Alle", None),
    ],
)
def test_a_file_name_that_goes_in_8_bits_stays_beside_the_charset_that_is_added(field, filename):
    content = f"From: a@b.example\r\nContent-Type: {field}\r\n\r\n<p>{'ü' * 700}</p>\r\n".encode()
    adapted = adapt(content, MODERN, smtputf8=True)
    assert is_sendable(adapted, MODERN)
    parsed = email.message_from_bytes(adapted)
    assert parsed.get_content_type() == "text/html"
    assert parsed.get_payload(decode=True) == content.partition(b"\r\n\r\n")[2]
    assert filename is None or (parsed.get_filename(), parsed.get_param("charset")) == (filename, "utf-8")


def test_a_mailbox_outside_ascii_needs_smtputf8():
    refused = adapt("From: Jörg <jörg@clinic.example>\r\n\r\nx\r\n".encode(), NO_UTF8, smtputf8=True)
    assert isinstance(refused, Impossible)
    assert refused.status == "5.6.7"


def test_a_structured_header_outside_ascii_is_refused():
    refused = adapt("Message-ID: <ü@x>\r\n\r\nx\r\n".encode(), OLD)
    assert isinstance(refused, Impossible)
    assert refused.status == "5.6.3"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"References: <" + b"a" * 1200 + b"@x.example>\r\n\r\nx\r\n",
            ("more than 998 octets", "References has a word"),
        ),
        (b"X-Jane-Roe: " + b"a" * 1200 + b"\r\n\r\nx\r\n", ("more than 998 octets", "a header has a word")),
        (b"Subject: x\r\n" + b"a" * 1200 + b"\r\n\r\nx\r\n", ("more than 998 octets", "over-long and no field")),
        (
            message(multipart(b"signed", b"b", part(b"text/plain", b"a" * 1200))),
            ("more than 998 octets", "would break it"),
        ),
    ],
)
@pytest.mark.parametrize("features", [MODERN, OLD])
def test_what_is_too_long_is_told_as_that_and_not_as_8_bit(content, told, features):
    refused = adapt(content, features)
    assert isinstance(refused, Impossible)
    why = disposition(
        Failure(
            trouble=Trouble.UNSUPPORTED, stage=Stage.RENDER, status=EnhancedStatus.parse(refused.status),
            detail=refused.why,
        )
    ).why  # fmt: skip
    assert all(words in why for words in told), why
    assert "8-bit" not in why
    assert "extension" not in why
    assert "Jane" not in why


def test_what_is_8_bit_is_told_as_that():
    refused = adapt("Message-ID: <ü@x>\r\n\r\nx\r\n".encode(), OLD)
    assert "takes no 8-bit messages" in refused.why
    assert "a structured header" in refused.why


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a" * 3000, "a" * 3000),
        ("before " + "b" * 1200 + " after", "before " + "b" * 1200 + " after"),
        ("=?us-ascii?q?" + "c" * 1200 + "?=", "c" * 1200),
    ],
)
@pytest.mark.parametrize("name", ["Subject", "Comments"])
def test_text_with_a_word_that_no_line_can_hold_goes_in_encoded_words(name, value, text):
    """A subject that some program wrote without a blank is no reason to send nothing."""
    adapted = adapt(f"{name}: {value}\r\n\r\nx\r\n".encode(), MODERN)
    assert is_sendable(adapted, MODERN)
    assert str(make_header(decode_header(email.message_from_bytes(adapted)[name]))) == text


def test_long_header_lines_are_folded():
    content = b"From: a@b.example\r\nReferences:" + b" <abc@d>" * 300 + b"\r\n\r\nx\r\n"
    adapted = adapt(content, MODERN)
    assert is_sendable(adapted, MODERN)
    assert adapted.replace(b"\r\n <", b" <") == content
    assert isinstance(adapt(b"In-Reply-To: " + b"x" * 2000 + b"\r\n\r\nx\r\n", MODERN), Impossible)


# --- properties -----------------------------------------------------------

LINE = st.one_of(
    st.binary(max_size=40).map(lambda raw: raw.replace(b"\r", b"r").replace(b"\n", b"n").replace(b"-", b"_")),
    st.sampled_from([b"", b" ", b"\t", b".", b"..", b"=", b"From x", b"x" * 998, b"y" * 999, "é".encode() * 600]),
)
BODY = st.lists(LINE, max_size=5).map(b"\r\n".join)
LEAF = st.tuples(st.sampled_from([b"text/plain", b"text/html; charset=utf-8", b"application/pdf"]), BODY).map(
    lambda x: part(*x)
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.tuples(st.lists(inner, min_size=1, max_size=3), st.integers(0, 10**9)).map(
        lambda x: multipart(b"mixed", b"b%d" % x[1], *x[0])
    ),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(tree=TREE, features=st.sampled_from([OLD, MODERN]))
def test_the_content_of_every_part_is_unchanged(tree, features):
    content = message(tree)
    adapted = adapt(content, features)
    assert isinstance(adapted, bytes)
    assert is_sendable(adapted, features)
    assert leaves(adapted) == leaves(content)
    assert adapt(adapted, features) is adapted


@given(plain=st.binary(max_size=300))
def test_encodings_are_undone_by_the_standard_library(plain):
    import base64
    import quopri

    encoded = to_quoted_printable(plain)
    assert quopri.decodestring(encoded) == plain
    assert all(len(line) <= 76 for line in encoded.split(b"\r\n"))
    assert base64.b64decode(to_base64(plain)) == plain


@given(lengths=st.lists(st.integers(0, 2100), max_size=6), ends=st.booleans())
def test_long_lines_are_found(lengths, ends):
    content = b"\r\n".join(b"x" * length for length in lengths) + (b"\r\n" if ends else b"")
    assert has_long_line(content) == any(length > MAX_LINE for length in lengths)


@pytest.mark.parametrize("features", [OLD, MODERN])
def test_a_multipart_in_which_no_part_begins_loses_none_of_its_text(features):
    content = (
        b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b" --b\r\n\r\ncaf\xc3\xa9 " + b"x" * 1200 + b"\r\n--b--\r\n"
    )
    assert isinstance(adapt(content, features), Impossible)


@pytest.mark.parametrize("written", [b"8bit;", b'"8bit"', b"8BIT ; x=y"])
def test_a_transfer_encoding_is_known_by_its_word(written):
    content = TEXT.replace(b"8bit", written) + b"caf\xc3\xa9\r\n"
    adapted = adapt(content, OLD)
    assert adapted.isascii()
    assert leaves(adapted) == [("text/plain", "caf\u00e9\r\n".encode())]


def test_an_over_long_line_of_a_header_that_is_no_field_is_not_sent():
    inner = b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n" + b"x" * 1200 + b"\r\n\r\nhi\r\n"
    for features in (OLD, MODERN):
        assert isinstance(adapt(b"From: a@b.example\r\n" + inner, features), Impossible)


@pytest.mark.parametrize("open_", ["<\u00e9", 'a\\"', '"', "("])
def test_what_is_opened_again_and_again_and_never_closed_is_read_once(open_):
    head = b"From: \xc3\xa9 " + (open_ * 10 + "\r\n ").encode() * 3_000 + b"x\r\n\r\nhi\r\n"
    adapted = adapt(head, NO_UTF8)
    assert isinstance(adapted, Impossible) or adapted.isascii()


@pytest.mark.parametrize(("depth", "fits"), [(15, True), (40, False)])
def test_parts_nested_beyond_what_the_scan_looks_at_are_not_converted(depth, fits):
    content = part(b"text/plain; charset=utf-8", b"caf\xc3\xa9")
    for level in range(depth):
        content = multipart(b"mixed", b"b%d" % level, content)
    adapted = adapt(message(content), OLD)
    assert isinstance(adapted, bytes) is fits
    if fits:
        assert leaves(adapted) == [("text/plain", "caf\u00e9".encode())]
