"""The whole journey over the running system: notice, code, message, reply; what the sender gets, and the trail."""

import re
import time
from email import message_from_bytes, policy
from http.cookies import SimpleCookie

import httpx
import pytest

from tests.e2e.test_portal_way import FALLS, WORDS, link_of, send
from tests.support.portal_site import Browser
from tests.support.system import audit, clinic, domain, drained, end, fates, log_lines, system

REPLY = "Thank you doctor, when shall I come?"


class Jar(httpx.AsyncBaseTransport):
    """Keeps cookies as browsers do on localhost: marked secure, and sent without TLS all the same."""

    def __init__(self):
        self.inner, self.cookies = httpx.AsyncHTTPTransport(), {}

    async def handle_async_request(self, request):
        if self.cookies:
            request.headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        response = await self.inner.handle_async_request(request)
        for header in response.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                self.cookies[name] = morsel.value
        return response

    async def aclose(self):
        await self.inner.aclose()


class Visitor(Browser):
    def __init__(self, site):
        origin = "http://{}:{}".format(*site.portal)
        self.client = httpx.AsyncClient(transport=Jar(), base_url=origin, timeout=90)
        self.page = None


@pytest.mark.timeout(480)
async def test_from_the_notice_to_the_reply(tmp_path):
    async with system(tmp_path, domain("mail.example"), clinic(), policy=FALLS, portal=True) as (site, internet):
        message_id = await send(site, "pat@mail.example", tag=b"[secure] ")
        mailbox = internet.peers["mail.example"]
        await mailbox.wait_messages(1, timeout=90)
        deposit = link_of(message_from_bytes(mailbox.messages[0].content, policy=policy.default))
        visitor = Visitor(site)
        try:
            landing = await visitor.get(f"/m/{deposit}")
            assert landing.status_code == 200
            assert not any(word.decode() in landing.text for word in WORDS)
            asked = time.monotonic()
            await visitor.send(f"/m/{deposit}/code")
            await mailbox.wait_messages(2, timeout=90)
            print(f"\nthe code came {time.monotonic() - asked:.2f} s after it was asked for")
            mail = message_from_bytes(mailbox.messages[1].content, policy=policy.default)
            assert mail["From"].addresses[0].addr_spec == "secure@clinic.example"
            assert "DKIM-Signature" in mail
            code = re.search(r"Your code is: (\d{4} \d{4})", mail.get_content())[1]
            await visitor.send(f"/m/{deposit}/open", code=code)
            assert visitor.path == "/account/choose", (
                "a first visit offers a secret of their own; they may go on without"
            )
            await visitor.get(f"/inbox/{deposit}")
            await visitor.send(f"/inbox/{deposit}/open")
            assert "Your result" in visitor.page.text
            assert "HbA1c is 8.1 %" in visitor.page.text
            eml = await visitor.raw("GET", f"/inbox/{deposit}/eml")
            assert b"HbA1c is 8.1 %" in eml.content
            await visitor.get(f"/inbox/{deposit}/reply")
            token = visitor.form(f"/inbox/{deposit}/reply").fields["csrf"]
            sent = await visitor.client.post(
                f"/inbox/{deposit}/reply",
                data={"csrf": token, "text": REPLY, "action": "send"},
                files={"file": ("", b"", "application/octet-stream")},
                follow_redirects=True,
            )
            assert sent.url.path == f"/inbox/{deposit}/sent"
        finally:
            await visitor.client.aclose()
        doctor = internet.peers["clinic.example"]
        await doctor.wait_messages(1, timeout=90)
        await drained(site)
        replies = [one.content for one in doctor.messages if REPLY.encode() in one.content]
        assert len(replies) == 1, [one.content[:300] for one in doctor.messages]
        await end(site)
        records = audit(site)
        assert [fate["fate"] for fate in fates(records)[message_id, 0]] == ["notified", "read"]
        happened = [
            one["facts"]["event"] for one in records if one["kind"] == "portal" and one["message_id"] == message_id
        ]
        assert {"deposited", "downloaded", "replied"} <= set(happened)
        log = repr(log_lines(site))
        assert "pat@" not in log
        told = log + repr([one["facts"] for one in records if one["kind"] in ("portal", "fate", "notice")])
        for word in ("Jane", "HbA1c", "Your result", REPLY, code, code.replace(" ", "")):
            assert word not in told
