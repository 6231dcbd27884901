"""Requests to the portal's application as they stand, past every client that would tidy them up, and their answers."""

import asyncio
import dataclasses
import re
from urllib.parse import unquote

from starlette.routing import Route

from relay.portal.middleware import HEADERS
from relay.portal.options import LimitOptions, Rate

OWN = ("x-frame-options", "content-security-policy", "cache-control", "cross-origin-resource-policy")
"""Headers for which a page may say something stricter, or for files of its own something else."""


def fields_of(options):
    return [(field.name, getattr(options, field.name)) for field in dataclasses.fields(options)]


LIMITLESS = LimitOptions(
    **{name: Rate(most=10**9, window=60.0) for name, rate in fields_of(LimitOptions()) if isinstance(rate, Rate)}
)
"""Each example is to reach the code behind the limits."""


async def ask(app, method, raw_path, *, query=b"", headers=(), body=b""):
    """A request as it stands, past every client that would tidy it up; as uvicorn hands it over."""
    answer = {"body": b""}
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return pieces.pop() if pieces else await asyncio.Event().wait()

    async def send(message):
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
            answer["headers"] = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
            ]
        else:
            answer["body"] += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": method,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [(b"host", b"secure.clinic.example"), *headers],
        "client": ("192.0.2.7", 1),
        "server": ("x", 1),
        "scheme": "https",
        "root_path": "",
        "http_version": "1.1",
    }
    await app(scope, receive, send)
    return answer


def check(answer, what):
    """An answer that is meant: no fault, nothing of our insides, and what every answer says to browsers."""
    assert answer["status"] < 500, what
    assert b"Traceback" not in answer["body"], what
    headers = answer["headers"]
    names = [name for name, _ in headers]
    said = dict(headers)
    for name, value in HEADERS.items():
        assert names.count(name) == 1, (name, what)
        assert name in OWN or said[name] == value, (name, what)
    for name, value in headers:
        assert not re.search(r"[\r\n\0]", name + value), what
    for value in (value for name, value in headers if name == "location"):
        assert value.startswith("/"), what
        assert not value.startswith("//"), what


class Attack:
    """One portal with a reader who is signed in, for all examples of a property."""

    def __init__(self, site, browser, deposit):
        self.site, self.browser, self.deposit = site, browser, deposit
        self.routes = [route for route in site.app.routes if isinstance(route, Route)]
        self.cookies = "; ".join(f"{name}={value}" for name, value in browser.client.cookies.items())

    def run(self, *arguments, **named):
        return self.loop.run_until_complete(ask(self.site.app, *arguments, **named))


async def prepared(site, runner):
    deposit = await site.deposit(may_forward=True)
    browser = await site.browser().sign_in(deposit)
    await site.rooms.ledger.opened(deposit)
    await browser.get("/inbox")
    attack = Attack(site, browser, deposit)
    attack.loop = runner.get_loop()
    attack.csrf = re.search(r'name="csrf" value="([0-9a-f]{64})"', browser.page.text)[1]
    return attack
