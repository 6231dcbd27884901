"""What the portal's recipients and senders are written: the notice, its reminder, receipts.

None of it names a patient, a subject or a word of the sender's (law 4): whoever reads it on the way learns that a
clinic wrote to a mailbox. A receipt goes to the sender alone, and names the mailbox that they themselves wrote to.
Equal arguments give equal bytes, so that a notice that is tried again is the same message.
"""

import datetime as dt
import hashlib
import html
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Final

from relay.core.address import Address
from relay.core.portal import Deposit

Texts = Mapping[str, Mapping[str, str]]
"""Language to ``table.key`` to sentence."""

_FALLBACK: Final = "en"
_WIDTH: Final = 72
_MAX_NAME: Final = 128
_CID: Final = "brand"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeBrand:
    """A clinic as its patients know it.

    Attributes:
        name: such as ``Riverside Clinic``.
        address: postal address, one line; may be empty.
        phone: whom to call; may be empty.
        accent: colour of the button, ``#rrggbb``, dark enough for white letters.
        logo: the picture's octets, sent with the notice; nothing is fetched when it is read. May be empty.
        logo_type: ``image/png``, ``image/jpeg`` or ``image/webp``.
    """

    name: str = "Secure messages"
    address: str = ""
    phone: str = ""
    accent: str = "#1b5e8c"
    logo: bytes = field(default=b"", repr=False)
    logo_type: str = "image/png"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeOptions:
    """Who writes.

    Attributes:
        origin: scheme and host of the portal, without a slash at its end.
        mail_from: whom notices are from; its domain signs them (DKIM).
        texts: the sentences.
        brands: by tenant.
        brand: of tenants that have none.
    """

    origin: str
    mail_from: Address
    texts: Texts = field(repr=False)
    brands: Mapping[str, NoticeBrand] = field(default_factory=dict)
    brand: NoticeBrand = field(default_factory=NoticeBrand)


class NoticeWriter:
    """Writes notices, reminders and receipts."""

    def __init__(self, options: NoticeOptions) -> None:
        self._options = options

    def notice(self, deposit: Deposit) -> bytes:
        """The notice: that a clinic wrote, where to read it, until when, and how to tell a genuine notice."""
        return self._to_reader(deposit, "notice", token=f"notice:{deposit.id}", at=deposit.deposited_at)

    def again(self, deposit: Deposit, *, now: float) -> bytes:
        """The notice once more, because the sender or an operator asked for it."""
        return self._to_reader(deposit, "notice", token=f"again:{deposit.id}:{now}", at=now)

    def reminder(self, deposit: Deposit, *, now: float) -> bytes:
        """That the message was not opened yet, and will soon be deleted."""
        return self._to_reader(deposit, "reminder", token=f"reminder:{deposit.id}:{now}", at=now)

    def receipt(self, deposit: Deposit, what: str, *, now: float, page: str = "") -> bytes | None:
        """To the sender, what became of their message; ``None`` for the null sender, to whom nobody writes.

        Args:
            deposit: the message.
            what: ``notified``, ``opened``, ``downloaded``, ``expired`` or ``recalled``.
            now: unix seconds.
            page: the address of the sender's page of the message; empty for none.
        """
        to = deposit.sender.address
        if to is None:
            return None
        texts, brand = self._texts(_FALLBACK), self._brand(deposit)
        values = {
            "brand": brand.name,
            "mailbox": str(deposit.mailbox),
            "date": _minute(deposit.deposited_at),
            "time": _minute(now),
            "until": _day(deposit.expires_at),
            "message_id": deposit.message_id,
        }
        link = [texts["receipt.page"], f"  {page}"] if page else []
        body = [texts[f"receipt.{what}"].format(**values), *link, texts["receipt.foot"].format(**values)]
        subject = texts[f"receipt.{what}_subject"].format(**values)
        message = self._message(to, subject, brand, token=f"{what}:{deposit.id}:{now}", at=now)
        message.set_content(_plain(body), charset="utf-8", cte="quoted-printable")
        message["Content-Language"] = _FALLBACK
        return message.as_bytes()

    # --- inside ---

    def _to_reader(self, deposit: Deposit, kind: str, *, token: str, at: float) -> bytes:
        language = deposit.language if deposit.language in self._options.texts else _FALLBACK
        texts, brand = self._texts(language), self._brand(deposit)
        link = f"{self._options.origin}/m/{deposit.id}"
        values = {
            "brand": brand.name,
            "link": link,
            "until": _day(deposit.expires_at),
            "from": str(self._options.mail_from),
            "host": self._options.origin.partition("://")[2],
            "genuine": f"{self._options.origin}/genuine",
            "phone": brand.phone,
        }
        said = {key: text.format(**values) for key, text in texts.items() if key.startswith((kind, "both."))}
        message = self._message(deposit.mailbox, said[f"{kind}.subject"], brand, token=token, at=at)
        foot = ", ".join(filter(None, (brand.name, brand.address, brand.phone)))
        call = [said["both.call"]] if brand.phone else []
        checks = [line for line in said["both.checks"].splitlines() if line]
        about = [said["both.genuine"], *(f"  - {line}" for line in checks), *call, foot]
        message.set_content(
            _plain([said[f"{kind}.opening"], f"  {link}", said["both.how"], said[f"{kind}.until"], *about]),
            charset="utf-8",
            cte="quoted-printable",
        )
        page = _page(said, kind, brand, language=language, link=link, checks=checks, call=call, foot=foot)
        message.add_alternative(page, subtype="html", charset="utf-8", cte="quoted-printable")
        if brand.logo:
            self._add_logo(message, brand)
        message["Content-Language"] = language  # last: the library would move it into the first part
        _fix_boundaries(message, _digest(token))
        return message.as_bytes()

    @staticmethod
    def _add_logo(message: EmailMessage, brand: NoticeBrand) -> None:
        page = message.get_body(("html",))
        if page is not None:
            maintype, _, subtype = brand.logo_type.partition("/")
            page.add_related(brand.logo, maintype, subtype, cid=f"<{_CID}>", disposition="inline")

    def _message(self, to: Address, subject: str, brand: NoticeBrand, *, token: str, at: float) -> EmailMessage:
        source = self._options.mail_from
        message = EmailMessage(policy=SMTP.clone(utf8=not (to.is_ascii and source.is_ascii)))
        message["From"] = HeaderAddress(_line(brand.name), source.local, source.domain)
        message["To"] = HeaderAddress("", to.local, to.domain)
        message["Subject"] = _line(subject)
        message["Date"] = format_datetime(dt.datetime.fromtimestamp(int(at), dt.UTC))
        message["Message-ID"] = f"<{_digest(token)}.portal@{source.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834 section 5
        message["X-Auto-Response-Suppress"] = "All"  # Exchange answers with absence notices otherwise
        return message

    def _brand(self, deposit: Deposit) -> NoticeBrand:
        return self._options.brands.get(deposit.tenant, self._options.brand)

    def _texts(self, language: str) -> Mapping[str, str]:
        return self._options.texts[language]


_PAGE: Final = """<!DOCTYPE html>
<html lang="{language}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{subject}</title></head>
<body style="margin:0;padding:24px;background:#f4f5f7;color:#1d2430;font:16px/1.5 sans-serif">
<div style="max-width:560px;margin:0 auto;padding:24px;background:#ffffff;border-radius:8px">
{logo}<h1 style="margin:0 0 16px;font-size:20px">{brand}</h1>
<p>{opening}</p>
<p style="margin:24px 0"><a href="{link}" style="display:inline-block;padding:14px 22px;border-radius:6px;\
background:{accent};color:#ffffff;text-decoration:none;font-weight:bold">{button}</a></p>
<p style="font-size:14px;overflow-wrap:anywhere">{link}</p>
<p>{how}</p>
<p>{until}</p>
<h2 style="font-size:16px">{genuine}</h2>
<ul>{checks}</ul>
{call}<p style="font-size:14px;color:#4a5568">{foot}</p>
</div>
</body>
</html>
"""


def _page(
    said: Mapping[str, str],
    kind: str,
    brand: NoticeBrand,
    *,
    language: str,
    link: str,
    checks: list[str],
    call: list[str],
    foot: str,
) -> str:
    logo = f'<p><img src="cid:{_CID}" alt="{html.escape(brand.name)}" style="max-height:64px;max-width:240px"></p>\n'
    safe = {
        "language": language,
        "subject": said[f"{kind}.subject"],
        "brand": brand.name,
        "opening": said[f"{kind}.opening"],
        "link": link,
        "accent": brand.accent,
        "button": said["both.button"],
        "how": said["both.how"],
        "until": said[f"{kind}.until"],
        "genuine": said["both.genuine"],
        "foot": foot,
    }
    escaped = {key: html.escape(text) for key, text in safe.items()}
    escaped["checks"] = "".join(f"<li>{html.escape(line)}</li>" for line in checks)
    escaped["call"] = "".join(f"<p>{html.escape(line)}</p>\n" for line in call)
    escaped["logo"] = logo if brand.logo else ""
    return _PAGE.format(**escaped)


def _plain(paragraphs: list[str]) -> str:
    """Paragraphs wrapped; what is indented, such as a link, stays on its line."""
    wrapped = []
    for text in paragraphs:
        if text.startswith("  http"):
            wrapped.append(text)
            continue
        indent = "    " if text.startswith("  - ") else ""
        lines = textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        wrapped.append("\n".join(lines))
    return "\n\n".join(wrapped) + "\n"


def _fix_boundaries(message: EmailMessage, token: str) -> None:
    """The library's are random, and a notice that is tried again must be the same."""
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{token}_{number}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_NAME]


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%d")


def _minute(at: float) -> str:
    return dt.datetime.fromtimestamp(int(at), dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
