"""``postern send``: give one message file to a relay over SMTP and say what it answered."""

import asyncio
import getpass
import ssl
from pathlib import Path
from typing import BinaryIO

import aiosmtplib
import click

_TIMEOUT = 300.0  # seconds for the final dot, RFC 5321 section 4.5.3.2.6 allows ten minutes


@click.command("send")
@click.argument("file", type=click.File("rb"))
@click.option("--from", "sender", required=True, help="Envelope sender; '<>' for the null sender.")
@click.option("--to", "recipients", required=True, multiple=True, help="Envelope recipient; may be repeated.")
@click.option("--server", default="127.0.0.1:25", show_default=True, help="HOST:PORT of the relay.")
@click.option(
    "--tls", type=click.Choice(["none", "starttls", "implicit"]), default="none", show_default=True,
    help="starttls as on port 587, implicit as on 465; the server's certificate must verify.",
)  # fmt: skip
@click.option(
    "--ca", type=click.Path(exists=True, path_type=Path), help="Root certificate to trust besides the system's."
)
@click.option("--user", help="AUTH identity (the client's name).")
@click.option("--password-file", type=click.Path(exists=True, path_type=Path), help="File with the secret; else asked.")
def command(
    file: BinaryIO,
    sender: str,
    recipients: tuple[str, ...],
    server: str,
    tls: str,
    ca: Path | None,
    user: str | None,
    password_file: Path | None,
) -> None:
    """Send the message in FILE ('-' for standard input) and print each recipient's answer.

    Exit status 0 only when every recipient was taken.
    """
    host, _, port = server.rpartition(":")
    if not host or not (port.isdecimal() and 0 < int(port) < 65536):
        raise click.BadParameter("write HOST:PORT", param_hint="--server")
    secret = _secret(password_file) if user else None
    context = _trust(ca)
    content = file.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    client = aiosmtplib.SMTP(
        hostname=host.strip("[]"),
        port=int(port),
        timeout=_TIMEOUT,
        use_tls=tls == "implicit",
        start_tls=tls == "starttls",
        tls_context=context,
    )
    try:
        refused, answer = asyncio.run(_send(client, sender.strip("<>"), recipients, content, user, secret))
    except (aiosmtplib.SMTPException, OSError) as error:
        raise click.ClickException(f"{server}: {error}") from error
    for address, (code, text) in refused.items():
        click.echo(f"{address}: {code} {text}", err=True)
    click.echo(answer)
    if refused:
        raise SystemExit(1)


def _trust(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except OSError as error:
        raise click.BadParameter(f"{ca}: not a certificate ({error.strerror})", param_hint="--ca") from error
    return context


def _secret(password_file: Path | None) -> str:
    if password_file is None:
        return getpass.getpass("Secret: ")
    try:
        return password_file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{password_file}: cannot be read", param_hint="--password-file") from error


async def _send(
    client: aiosmtplib.SMTP,
    sender: str,
    recipients: tuple[str, ...],
    content: bytes,
    user: str | None,
    secret: str | None,
) -> tuple[dict[str, tuple[int, str]], str]:
    async with client:
        if user is not None and secret is not None:
            await client.login(user, secret)
        options = await _options(client, sender, recipients)
        try:
            replies, answer = await client.sendmail(sender, list(recipients), content, mail_options=options)
        except aiosmtplib.SMTPRecipientsRefused as error:
            return {one.recipient: (one.code, one.message) for one in error.recipients}, "Nobody was taken."
        return {address: (reply.code, reply.message) for address, reply in replies.items()}, answer


async def _options(client: aiosmtplib.SMTP, sender: str, recipients: tuple[str, ...]) -> list[str]:
    """Parameters of MAIL FROM: SMTPUTF8 where an address needs it (RFC 6531)."""
    if all(address.isascii() for address in (sender, *recipients)):
        return []
    await client.ehlo()
    if not client.supports_extension("smtputf8"):
        raise click.ClickException("an address is not ASCII, and the server does not offer SMTPUTF8")
    return ["SMTPUTF8", "BODY=8BITMIME"]
