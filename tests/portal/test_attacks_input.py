"""Attacks by what is sent: any path, query, form, cookie and header gets an answer that is meant, and a safe one."""

import asyncio
import re
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.portal_asgi import LIMITLESS, check, prepared
from tests.support.portal_site import a_site

NASTY = (
    "\0", "%00", "\x01", "\x7f", "\r\nSet-Cookie: a=b", "\udcff", "\ud800", "\ufffe", "\u202e", "\u212a",
    "../../etc/passwd", "..\\..", "%2e%2e%2f", "a" * 300, "é", "💥", "'; DROP TABLE deposits; --", '" OR 1=1 --',
    "<script>alert(1)</script>", "{{7*7}}", "${jndi:ldap://x}", "%s%n", "-1", "9" * 40, "1e400", "NaN", "null",
    "[]", '{"id": "\\ud800", "response": {}}', '{"response": {"userHandle": "\\u0000"}}', " ", "",
    "2026-13-45", "0000-00-00", "9999-12-31", "0001-01-01", "//evil.example", "/inbox/\0", "\x00" * 60,
)  # fmt: skip


texts = st.sampled_from(NASTY) | st.text(max_size=40)
octets = st.sampled_from([text.encode("utf-8", "surrogatepass") for text in NASTY]) | st.binary(max_size=40)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.peers)])
def attack(request, tmp_path_factory):
    """In a loop of its own, for Hypothesis calls plain functions."""
    with asyncio.Runner() as runner:
        around = a_site(tmp_path_factory.mktemp("attack"), kind=request.param, limits=LIMITLESS)
        site = runner.run(around.__aenter__())
        try:
            yield runner.run(prepared(site, runner))
        finally:
            runner.run(around.__aexit__(None, None, None))


def spoken(text: str) -> bytes:
    """A part of a path as hostile clients write it."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="").encode("ascii")


thorough = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@thorough
@given(data=st.data())
def test_any_path_and_query_of_any_route_gets_an_answer_that_is_meant(attack, data):
    route = data.draw(st.sampled_from(attack.routes))
    path = re.sub(r"\{[^}]*\}", lambda _: spoken(data.draw(texts)).decode("ascii"), route.path).encode("ascii")
    if data.draw(st.booleans()):
        path = route.path.replace("{deposit_id}", attack.deposit.id).encode("ascii")
        path = re.sub(rb"\{[^}]*\}", b"1", path)
    names = st.sampled_from(["after", "next", "lang", "done", "all", "view", "upload", "kind", "start", "size", "name"])
    query = b"&".join(
        name.encode() + b"=" + spoken(value) for name, value in data.draw(st.lists(st.tuples(names, texts), max_size=3))
    )
    method = data.draw(st.sampled_from(["GET", "HEAD"]))
    headers = [(b"cookie", attack.cookies.encode())] if data.draw(st.booleans()) else []
    answer = attack.run(method, path, query=query, headers=headers)
    check(answer, (method, path, query))


@thorough
@given(query=octets, path=octets)
def test_any_octets_of_a_query_and_a_path_get_an_answer_that_is_meant(attack, query, path):
    path = b"/" + b"".join(
        b"%%%02x" % octet if octet < 0x21 or octet > 0x7E or octet in b"%?#" else bytes([octet]) for octet in path
    )
    check(attack.run("GET", path, query=query), (path, query))


@thorough
@given(data=st.data())
def test_any_form_gets_an_answer_that_is_meant(attack, data):
    route = data.draw(st.sampled_from([route for route in attack.routes if "POST" in (route.methods or ())]))
    path = re.sub(r"\{[^}]*\}", "1", route.path.replace("{deposit_id}", attack.deposit.id)).encode("ascii")
    if b"not-me" in path or b"sign-out" in path or b"devices" in path:
        return  # they would end what the other examples need
    names = st.sampled_from(
        ["email", "way", "code", "passphrase", "totp", "credential", "ticket", "next", "from", "since", "until",
         "after", "secret", "new", "again", "current", "name", "id", "text",
         "to", "act", "kind", "remove", "all", "sure", "\0"]
    )  # fmt: skip
    fields = [("csrf", attack.csrf), *data.draw(st.lists(st.tuples(names, texts), max_size=5))]
    encoded = [
        (name.encode("utf-8", "surrogatepass"), value.encode("utf-8", "surrogatepass")) for name, value in fields
    ]
    if data.draw(st.booleans()):
        body, kind = urlencode(encoded).encode("ascii"), b"application/x-www-form-urlencoded"
    else:
        part = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        body, kind = b"".join(part % one for one in encoded) + b"--x--\r\n", b"multipart/form-data; boundary=x"
    headers = [(b"cookie", attack.cookies.encode()), (b"content-type", kind), (b"content-length", b"%d" % len(body))]
    check(attack.run("POST", path, headers=headers, body=body), (path, body))


@thorough
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [b"cookie", b"accept-language", b"user-agent", b"range", b"if-range", b"content-type",
                 b"content-length", b"x-csrf-token", b"sec-fetch-site",
                 b"x-forwarded-for", b"forwarded", b"referer", b"expect", b"te"]
            ),
            octets.map(lambda value: value.translate(None, b"\r\n\0"))
            | st.sampled_from([b"__Host-session=" + b"A" * 43, b"__Host-device=" + b".".join([b"A" * 43] * 9),
                               b'__Host-language="\\303\\251"', b"bytes=0-", b"bytes=-0", b"bytes=9-1",
                               b"bytes=" + b"9" * 50 + b"-", b"bytes=0-0,1-1", b"multipart/form-data",
                               b"multipart/form-data; boundary=", b'text/plain; charset="\xff"']),
        ),
        max_size=4,
    ),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    data=st.data(),
)  # fmt: skip
def test_any_headers_get_an_answer_that_is_meant(attack, headers, method, data):
    route = data.draw(st.sampled_from(attack.routes))
    path = re.sub(r"\{[^}]*\}", "1", route.path.replace("{deposit_id}", attack.deposit.id)).encode("ascii")
    mine = [] if any(name == b"cookie" for name, _ in headers) else [(b"cookie", attack.cookies.encode())]
    answer = attack.run(method, path, headers=[*headers, *mine])
    check(answer, (method, path, headers))


@pytest.mark.parametrize(
    "path", ["/m/%00", "/m/a%00b", "/inbox/%00", "/approve/%00", "/m/%ed%a0%80", "/static/%00", "/%00"]
)
def test_a_path_that_no_database_takes_is_of_no_page(attack, path):
    for cookies in ("", attack.cookies):
        answer = attack.run("GET", path.encode(), headers=[(b"cookie", cookies.encode())])
        assert answer["status"] == 404
        check(answer, path)


@pytest.mark.parametrize("query", ["after=%00", "after=a%00b", "after=%ed%a0%80", "after=%ff", "next=%00"])
def test_a_query_that_no_database_takes_is_none(attack, query):
    answer = attack.run("GET", b"/inbox", query=query.encode(), headers=[(b"cookie", attack.cookies.encode())])
    assert answer["status"] in {200, 400}
    check(answer, query)
