"""Downloads go on where they broke off (RFC 9110 section 14), and say beforehand how long they are."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from relay.portal.message.ranges import Span, cut, span_of
from tests.portal.test_message_pages import a_message, events, reader

TAG = "abc"
FILE = os.urandom(200_000)


def a_request(method="GET", **headers):
    listed = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": method, "headers": listed})


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-", Span(start=0, end=10)),
        ("bytes=0-0", Span(start=0, end=1)),
        ("bytes=4-6", Span(start=4, end=7)),
        ("bytes=4-99", Span(start=4, end=10)),
        ("bytes=9-", Span(start=9, end=10)),
        ("bytes=-3", Span(start=7, end=10)),
        ("bytes=-99", Span(start=0, end=10)),
        ("bytes=10-", Span(start=0, end=0)),
        ("bytes=-0", Span(start=10, end=0)),
        ("bytes=" + "9" * 18 + "-", Span(start=0, end=0)),
        ("bytes=6-4", None),
        ("bytes=0-1,3-4", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=\u00b2-", None),
        ("bytes=" + "9" * 19 + "-", None),
        ("lines=0-1", None),
        ("", None),
    ],
)
def test_what_is_asked_for(asked, span):
    assert span_of(a_request(range=asked), 10, TAG) == span


def test_a_range_is_of_one_file_and_of_a_get():
    assert span_of(a_request(range="bytes=1-", if_range='"abc"'), 10, TAG) == Span(start=1, end=10)
    for other in ('"abd"', 'W/"abc"', "abc", "Sun, 22 Nov 2026 10:00:00 GMT", ""):
        assert span_of(a_request(range="bytes=1-", if_range=other), 10, TAG) is None
    assert span_of(a_request("HEAD", range="bytes=1-"), 10, TAG) is None
    assert span_of(a_request(), 10, TAG) is None


@given(
    pieces=st.lists(st.binary(max_size=9), max_size=9),
    start=st.integers(min_value=0, max_value=90),
    length=st.integers(min_value=0, max_value=90),
)
def test_a_span_of_pieces_is_that_of_the_whole(pieces, start, length):
    read = []

    async def whole():
        for piece in pieces:
            read.append(piece)
            yield piece

    async def run():
        return b"".join([piece async for piece in cut(whole(), Span(start=start, end=start + length))])

    coroutine = run()
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value == b"".join(pieces)[start : start + length]
    assert len(b"".join(read[:-1])) < start + length or not read[:-1], "nothing is read beyond it"


# --- through the pages


@pytest.mark.parametrize("path", ["part/4", "eml"])
async def test_a_download_that_breaks_off_again_and_again_is_whole_in_the_end(site, path):
    browser, deposit = await reader(site, content=a_message(FILE, "scan.pdf"))
    whole = await browser.get(f"/inbox/{deposit.id}/{path}")
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    assert int(whole.headers["content-length"]) == len(whole.content)
    tag, taken = whole.headers["etag"], b""
    while len(taken) < len(whole.content):
        headers = {"range": f"bytes={len(taken)}-", "if-range": tag}
        rest = await browser.raw("GET", f"/inbox/{deposit.id}/{path}", headers=headers)
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes {len(taken)}-{len(whole.content) - 1}/{len(whole.content)}"
        assert int(rest.headers["content-length"]) == len(rest.content)
        taken += rest.content[:77_777]
    assert taken == whole.content
    if path == "part/4":
        assert taken == FILE


async def test_the_length_is_known_before_and_ranges_are_answered_as_the_rfc_says(site):
    browser, deposit = await reader(site, content=a_message(FILE, "scan.pdf"))
    path = f"/inbox/{deposit.id}/part/4"
    head = await browser.raw("HEAD", path)
    assert (head.headers["content-length"], head.content) == (str(len(FILE)), b"")
    beyond = await browser.raw("GET", path, headers={"range": f"bytes={len(FILE)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(FILE)}")
    several = await browser.raw("GET", path, headers={"range": "bytes=0-1,5-6"})
    assert (several.status_code, len(several.content)) == (200, len(FILE))
    stale = await browser.raw("GET", path, headers={"range": "bytes=5-", "if-range": '"another"'})
    assert (stale.status_code, len(stale.content)) == (200, len(FILE))
    last = await browser.raw("GET", path, headers={"range": "bytes=-7"})
    assert (last.status_code, last.content) == (206, FILE[-7:])
    for answer in (beyond, last):
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["cache-control"] == "no-store"
    pdf = await browser.raw("GET", f"/inbox/{deposit.id}/pdf")
    assert pdf.headers["accept-ranges"] == "none"
    assert int(pdf.headers["content-length"]) == len(pdf.content)


async def test_the_rest_of_a_download_is_no_other_one_and_none_goes_unnoticed(site):
    browser, deposit = await reader(site, content=a_message(FILE, "scan.pdf"))
    path = f"/inbox/{deposit.id}/part/4"
    await browser.raw("GET", path, headers={"range": "bytes=1-"})
    assert (await events(site)).count("downloaded") == 1, "all but one octet, and never from the beginning"
    for start in (0, 10, 20):
        await browser.raw("GET", path, headers={"range": f"bytes={start}-"})
    assert (await events(site)).count("downloaded") == 2


async def test_a_range_of_somebody_elses_message_is_none(site):
    _, deposit = await reader(site, content=a_message(FILE, "scan.pdf"))
    stranger = site.browser()
    answer = await stranger.raw("GET", f"/inbox/{deposit.id}/part/4", headers={"range": "bytes=0-9"})
    assert answer.status_code == 303
