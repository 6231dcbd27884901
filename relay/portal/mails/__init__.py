"""The mail that the portal's own pages cause: codes, news of an account, and what a sender is told or asked.

Plain text, for it is short and must be readable everywhere. It names no patient, no subject and no text of a sender's
(law 4); where a sender is written to, it names the mailbox that they themselves wrote to.
"""

import datetime as dt
import functools
import textwrap
import tomllib
from collections.abc import Mapping
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from importlib import resources
from typing import Final

from relay.core.address import Address
from relay.core.ids import ENTROPY_BYTES, queue_id
from relay.core.portal import Deposit, Post, PostKind
from relay.portal.options import PortalOptions
from relay.portal.tokens import Entropy
from relay.portal.words import DEFAULT, LANGUAGES

_WIDTH: Final = 72
_MAX_NAME: Final = 64


class Mails:
    """Writes posts, ready to be handed out."""

    def __init__(self, options: PortalOptions, entropy: Entropy) -> None:
        """Take who writes.

        Args:
            options: origin, brands and the sender's address.
            entropy: for the ids of posts.
        """
        self._options = options
        self._entropy = entropy

    def code(
        self,
        mailbox: Address,
        code: str,
        *,
        tenant: str,
        language: str,
        deposit_id: str = "",
        now: float,
        kind: PostKind = PostKind.CODE,
    ) -> Post:
        """The code that somebody asked for; ``kind`` says what it opens, and so what it needs on its way."""
        minutes = round(self._options.codes.life / 60)
        values = {"code": f"{code[:4]} {code[4:]}".strip(), "minutes": minutes}
        return self._post(
            kind, "code", mailbox, values, tenant=tenant, language=language, deposit_id=deposit_id, now=now
        )

    def device(self, mailbox: Address, name: str, *, tenant: str, language: str, now: float) -> Post:
        """A browser signed in that had not before."""
        return self._post(
            PostKind.ENROLLED, "device", mailbox, {"device": name}, tenant=tenant, language=language, now=now
        )

    def changed(self, mailbox: Address, what: str, *, tenant: str, language: str, now: float) -> Post:
        """How they sign in was changed; ``what`` is a key of ``[what]``."""
        values = {"what": "\n    ".join(textwrap.wrap(texts(language)[f"what.{what}"], _WIDTH - 4))}
        return self._post(PostKind.ENROLLED, "changed", mailbox, values, tenant=tenant, language=language, now=now)

    def not_me(self, deposit: Deposit, *, now: float) -> tuple[Post, ...]:
        """To the sender: their message reached the wrong mailbox. Nothing for the null sender."""
        if deposit.sender.address is None:
            return ()
        chosen = texts(DEFAULT)
        opened = chosen["not_me.never_opened"]
        if deposit.opened_at is not None:
            opened = chosen["not_me.was_opened"].format(time=_time(deposit.opened_at))
        values = {
            "date": _time(deposit.deposited_at),
            "mailbox": deposit.mailbox,
            "opened": opened,
            "message_id": deposit.message_id,
        }
        post = self._post(
            PostKind.RECEIPT,
            "not_me",
            deposit.sender.address,
            values,
            tenant=deposit.tenant,
            language=DEFAULT,
            deposit_id=deposit.id,
            now=now,
        )
        return (post,)

    def plea(self, sender: Address, mailbox: Address, token: str, *, tenant: str, now: float) -> Post:
        """To a sender: may the mailbox see their older messages again?"""
        values = {"mailbox": mailbox, "link": f"{self._options.origin}/approve/{token}"}
        return self._post(PostKind.RECEIPT, "plea", sender, values, tenant=tenant, language=DEFAULT, now=now)

    def _post(
        self,
        kind: PostKind,
        template: str,
        to: Address,
        values: Mapping[str, object],
        *,
        tenant: str,
        language: str,
        deposit_id: str = "",
        now: float,
    ) -> Post:
        brand = self._options.brand_of(tenant)
        chosen = texts(language)
        common = {
            "brand": brand.name,
            "host": self._options.host,
            "origin": self._options.origin,
            "time": _time(now),
        } | dict(values)
        body = _wrapped(chosen[f"{template}.text"].format(**common))
        foot = chosen["foot.text"].format(
            brand=brand.name,
            address=f", {brand.address}" if brand.address else "",
            phone="\n" + chosen["foot.phone"].format(phone=brand.phone) if brand.phone else "",
        )
        post_id = queue_id(now, self._entropy(ENTROPY_BYTES))
        message = self._message(to, chosen[f"{template}.subject"].format(**common), post_id, now, brand.name)
        message["Content-Language"] = language if language in LANGUAGES else DEFAULT
        message.set_content(f"{body.strip()}\n\n{foot.strip()}\n", charset="utf-8", cte="quoted-printable")
        return Post(
            id=post_id,
            kind=kind,
            recipients=(to,),
            content=message.as_bytes(),
            deposit_id=deposit_id,
            tenant=tenant,
            at=now,
        )

    def _message(self, to: Address, subject: str, post_id: str, now: float, name: str) -> EmailMessage:
        source = self._options.mail_from
        message = EmailMessage(policy=SMTP.clone(utf8=not (to.is_ascii and source.is_ascii)))
        message["From"] = HeaderAddress(_clean(name), source.local, source.domain)
        message["To"] = HeaderAddress("", to.local, to.domain)
        message["Subject"] = _clean(subject)
        message["Date"] = format_datetime(dt.datetime.fromtimestamp(int(now), dt.UTC))
        message["Message-ID"] = f"<{post_id}.portal@{source.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5
        message["X-Auto-Response-Suppress"] = "All"  # Exchange answers with absence notices otherwise
        return message


@functools.cache
def texts(language: str) -> Mapping[str, str]:
    """The texts of a language by ``table.key``; English for one that is not there."""
    known = language if language in LANGUAGES else DEFAULT
    source = resources.files(__package__).joinpath(f"{known}.toml").read_text("utf-8")
    tables: dict[str, dict[str, str]] = tomllib.loads(source)
    return {f"{table}.{key}": text.strip() for table, keys in tables.items() for key, text in keys.items()}


def _wrapped(text: str) -> str:
    lines = []
    for line in text.splitlines():
        lines += [line] if line.startswith(" ") else textwrap.wrap(line, _WIDTH, break_long_words=False) or [""]
    return "\n".join(lines)


def _clean(text: str) -> str:
    return " ".join(text.split())[: _MAX_NAME * 2]


def _time(at: float) -> str:
    """A moment that reads alike everywhere: ``2026-03-02 09:00 UTC``."""
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
