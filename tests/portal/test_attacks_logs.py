"""Law 4 in the portal: logs, metrics and audit events tell no mailbox, code, token, secret, subject or link."""

import logging
import re

import orjson
import pytest
import structlog

from relay.core.address import Address
from relay.core.portal import Secret
from relay.core.portal_accounts import SharedSecret
from relay.portal.gate import tenant_scope
from relay.portal.passphrase import shared_hash
from relay.portal.totp import STEP, hotp
from tests.support.authenticator import Authenticator
from tests.support.portal_site import QUICK, code_in

PLANTED = Address.parse("planted-pat@mail.example")
PHRASE = "planted horse battery"
SECRET = "planted heron 42"
pytestmark = pytest.mark.law


async def the_whole_journey(site) -> list[str]:
    """Everything that a person can do, rightly and wrongly; what must never be told."""
    deposit = await site.deposit(
        mailbox=PLANTED, subject="planted-subject", origin_from="planted-sender", secret=Secret.SHARED
    )
    verifier = shared_hash(SECRET, QUICK)
    await site.rooms.accounts.set_shared(PLANTED, SharedSecret(scope=tenant_scope("clinic"), verifier=verifier))
    browser = site.browser(network="203.0.113.77", agent="Firefox planted-agent Linux")
    secrets = ["planted", "203.0.113", deposit.id, deposit.id[9:]]
    await browser.get(f"/m/{deposit.id}?planted-query")
    await browser.send(f"/m/{deposit.id}/code")
    [post] = await site.take()
    code = code_in(post)
    await browser.send(f"/m/{deposit.id}/open", code="planted-wrong")
    await browser.send(f"/m/{deposit.id}/open", code=code)
    await browser.get("/account/passphrase")
    await browser.send("/account/passphrase", new=PHRASE, again=PHRASE)
    await browser.get("/account/totp")
    key = re.search(r"secret=([A-Z2-7]+)", browser.page.text)[1]
    await browser.send("/account/totp", totp=hotp(key, int(site.clock()) // STEP))
    await browser.get("/account/passkey")
    options = browser.form("/account/passkey").attributes["data-options"]
    await browser.send("/account/passkey", credential=Authenticator().create(options), name="planted-name")
    await browser.get(f"/inbox/{deposit.id}/secret")
    await browser.send(f"/inbox/{deposit.id}/secret", secret="planted wrong")
    await browser.send(f"/inbox/{deposit.id}/secret", secret=SECRET)
    await browser.get("/inbox")
    [search] = [form for form in browser.forms() if form.attributes.get("role") == "search"]
    await browser.send_form(search, **{"from": "planted-search"})
    await browser.get("/planted-page")
    await browser.get("/m/planted")
    await browser.get("/inbox/planted-planted-planted/secret")
    other = await site.browser().sign_in(deposit)
    await other.send("/sign-in/second", passphrase="planted wrong phrase")
    await other.get("/account/recovery")
    await other.send("/account/recovery")
    for _ in range(8):
        await other.get("/sign-in")
        await other.send("/sign-in", email=str(PLANTED))
        site.clock.now += 31
    await other.get("/inbox")
    await other.send("/sign-out")
    await browser.get(f"/m/{deposit.id}/not-me")
    await browser.send(f"/m/{deposit.id}/not-me", sure="yes")
    await site.take()
    cookies = [value for one in (browser, other) for value in one.client.cookies.values()]
    return [*secrets, code, code.replace(" ", ""), key, verifier, *cookies]


async def test_the_log_tells_nothing_of_anybody(site, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = await the_whole_journey(site)
    printed = capsys.readouterr()
    ours = [record.getMessage() for record in caplog.records if record.name.partition(".")[0] != "httpx"]
    told = printed.out + printed.err + "\n".join(ours)
    assert "portal_request" in told
    assert "portal_answer_wrong" in told
    assert "portal_limited" in told
    for secret in secrets:
        assert secret not in told, secret


async def test_each_line_of_a_request_names_its_route_and_not_its_path(site):
    with structlog.testing.capture_logs() as lines:
        await the_whole_journey(site)
    routes = {route.path for route in site.app.routes}
    requests = [line for line in lines if line["event"] == "portal_request"]
    assert len(requests) > 30
    for line in requests:
        assert line["route"] in routes
        assert set(line) <= {"event", "log_level", "method", "route", "status", "milliseconds", "deposit"}
        assert len(line.get("deposit", "")) <= 8


async def test_metrics_have_labels_of_the_catalogue_alone(site):
    from relay.observe.catalogue import BY_NAME

    secrets = await the_whole_journey(site)
    assert site.rooms.metrics.of("postern_portal_answers_total", way="code", result="right") == 2
    assert site.rooms.metrics.of("postern_portal_answers_total", way="shared", result="wrong") == 1
    for name, labels in site.rooms.metrics.counted:
        metric = BY_NAME[name]
        assert {label.name for label in metric.labels} == {key for key, _ in labels}, name
        for label in metric.labels:
            value = dict(labels)[label.name]
            assert value in label.values or label.pool, (name, value)
        for secret in secrets:
            assert secret not in str(labels)


async def test_the_audit_trail_names_mailboxes_under_their_key_alone(site):
    secrets = await the_whole_journey(site)
    kinds = set()
    for event in site.events:
        kinds.add(event.facts.get("event", event.kind))
        bare = {name: value for name, value in event.facts.items() if name not in {"recipients", "sender", "deposit"}}
        told = orjson.dumps(bare).decode()
        for secret in secrets:
            assert secret not in told, (event.kind, secret)
    assert {"signed-in", "passphrase-set", "totp-set", "passkey-set", "recovered", "fate"} <= kinds


async def test_no_mail_says_more_than_it_must(site):
    secrets = await the_whole_journey(site)
    never = [secret for secret in secrets if secret != "planted" and "203" not in secret and len(secret) > 12]
    assert site.posts
    for post in site.posts:
        text = post.content.decode()
        for secret in ("planted-subject", "planted-sender", "planted-agent", PHRASE, SECRET, *never):
            assert secret not in text, (post.kind, secret)


async def test_attempts_at_others_messages_are_logged(site):
    theirs = await site.deposit(mailbox=Address.parse("planted-sam@mail.example"))
    browser = await site.browser().sign_in(await site.deposit())
    with structlog.testing.capture_logs() as lines:
        await browser.raw("GET", f"/inbox/{theirs.id}")
        await browser.raw("POST", "/account/passphrase", data={})
    events = {line["event"]: line for line in lines}
    assert events["portal_not_theirs"]["deposit"] == theirs.id[:8]
    assert events["portal_refused"]["why"] == "forbidden"
    assert "planted" not in str(lines)
