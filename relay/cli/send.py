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
@click.option("--tls", type=click.Choice(["none", "starttls", "implicit"]), default="none", show_default=True)
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
    if not host or not port.isdigit():
        raise click.BadParameter("write HOST:PORT", param_hint="--server")
    context = ssl.create_default_context()
    if ca is not None:
        context.load_verify_locations(ca)
    content = file.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    client = aiosmtplib.SMTP(
        hostname=host.strip("[]"),
        port=int(port),
        timeout=_TIMEOUT,
        use_tls=tls == "implicit",
        start_tls=tls == "starttls",
        tls_context=context,
    )
    secret = _secret(password_file) if user else None
    try:
        refused, answer = asyncio.run(_send(client, sender.strip("<>"), recipients, content, user, secret))
    except (aiosmtplib.SMTPException, OSError) as error:
        raise click.ClickException(f"{server}: {error}") from error
    for address, (code, text) in refused.items():
        click.echo(f"{address}: {code} {text}", err=True)
    click.echo(answer)
    if refused:
        raise SystemExit(1)


def _secret(password_file: Path | None) -> str:
    return password_file.read_text().strip() if password_file else getpass.getpass("Secret: ")


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
        refused, answer = await client.sendmail(sender, list(recipients), content)
        return {address: (reply.code, reply.message) for address, reply in refused.items()}, answer
