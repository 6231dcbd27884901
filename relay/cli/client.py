"""``postern client``: the systems that may send, and their secrets."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import tables
from relay.cli.answer import encoded
from relay.cli.options import Group, config_option, only_asks
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.config.reception import ClientSettings

_LONGEST_OVERLAP: Final = 366 * 86_400.0


@click.group(cls=Group, name="client", help="Add, list and remove the systems that may send.")
@config_option(", which says where clients are kept")
@click.option("--clients-dir", type=click.Path(path_type=Path, file_okay=False), help="Use this directory instead.")
@click.pass_context
def command(ctx: click.Context, config: Path, clients_dir: Path | None) -> None:
    """Find the directory of clients."""
    if only_asks(ctx):
        return
    if clients_dir is None:
        from relay.config.load import load

        clients_dir = load(config).clients_dir
    ctx.obj = clients_dir.absolute()


def _client(values: dict[str, Any]) -> "ClientSettings":
    """Build a client from what was typed.

    Raises:
        ProblemsError: all that is wrong, by option.
    """
    from relay.config.document import Document
    from relay.config.load import validate
    from relay.config.reception import ClientSettings

    lines: dict[tuple[str | int, ...], int] = {(key,): 1 for key in values}
    typed = Document(source="client", data=values, lines=lines)
    try:
        return validate(typed, ClientSettings, Path.cwd())
    except ProblemsError as error:
        told = [Problem(where="client", what=one.what, hint=one.hint) for one in error.problems]
        raise ProblemsError(*told) from None


@command.command(help="Add a client and print its secret, once.")
@click.argument("name")
@click.option("--tenant", required=True, help="The tenant it belongs to.")
@click.option("--domain", "domains", multiple=True, help="A domain it may send as; *.x means below x. Repeatable.")
@click.option("--sender", "senders", multiple=True, help="A mailbox it may send as. Repeatable.")
@click.option("--network", "networks", multiple=True, help="A network it may connect from. Repeatable.")
@click.option("--per-minute", type=int, help="Messages a minute, then 450.  [default: 600]")
@click.option("--per-hour", type=int, help="Messages an hour, then 450.  [default: 10000]")
@click.option("--message-size", help="Largest message, such as 10MiB.  [default: limits.message_size]")
@click.option("--recipients", type=int, help="Recipients a message.  [default: limits.recipients]")
@click.option("--stream", type=click.Choice(["transactional", "bulk"]), help="What it sends.  [default: transactional]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def add(
    directory: Path,
    /,
    name: str,
    tenant: str,
    domains: tuple[str, ...],
    senders: tuple[str, ...],
    networks: tuple[str, ...],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Add a client."""
    from relay.config.clients import digest, generate_secret, write_client

    secret = generate_secret()
    values = {
        "name": name,
        "tenant": tenant,
        "secret_sha256": digest(secret),
        "senders": list(senders),
        "sender_domains": list(domains),
        "networks": list(networks),
        "messages_per_minute": options["per_minute"],
        "messages_per_hour": options["per_hour"],
        "message_size": options["message_size"],
        "recipients": options["recipients"],
        "stream": options["stream"],
    }
    client = _client({key: value for key, value in values.items() if value is not None})
    path = write_client(directory, client, replace=False)
    _tell_secret(client.name, secret, path, as_json=as_json)


def _tell_secret(name: str, secret: str, path: Path, *, as_json: bool, until: str = "") -> None:
    if as_json:
        told = {"name": name, "secret": secret, "file": str(path), "previous_until": until or None}
        click.echo(encoded(told))
        return
    click.echo(f"client:   {name}\nsecret:   {secret}\nfile:     {path}")
    if until:
        click.echo(f"previous: good until {until}")
    click.echo("The secret is shown this once. Let the client in with: postern reload")


@command.command(name="list", help="List the clients.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def list_(directory: Path, *, as_json: bool) -> None:
    """List the clients."""
    from relay.config.clients import load_clients

    clients = list(load_clients(directory))
    if as_json:
        click.echo(encoded([_shown(client) for client in clients]))
        return
    if not clients:
        click.echo("No clients yet: add one with `postern client add`.")
        return
    table = tables.table("name", "tenant", "may send as", "from networks", "a minute", "an hour")
    for client in clients:
        senders = ", ".join((*client.senders, *client.sender_domains))
        networks = ", ".join(str(network) for network in client.networks) or "any"
        table.add_row(
            client.name,
            client.tenant,
            senders,
            networks,
            str(client.messages_per_minute),
            str(client.messages_per_hour),
        )
    tables.show(table)


@command.command(help="Show a client.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(directory: Path, name: str, *, as_json: bool) -> None:
    """Show a client."""
    from relay.config.clients import client_path, load_client

    shown = _shown(load_client(client_path(directory, name)))
    if as_json:
        click.echo(encoded(shown))
        return
    width = max(len(key) for key in shown)
    for key, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{key:<{width}}  {'-' if text in (None, '') else text}")


def _shown(client: "ClientSettings") -> dict[str, Any]:
    """All but the digests of its secrets."""
    return client.model_dump(mode="json", exclude={"secret_sha256", "previous_secret_sha256"})


@command.command(help="Remove a client.")
@click.argument("name")
@click.pass_context
def remove(ctx: click.Context, name: str) -> None:
    """Remove a client, unless a listener trusts a network as it: no reload would be taken up, and it could go on."""
    from relay.config.clients import remove_client

    above = ctx.parent.params if ctx.parent is not None else {}
    if above.get("clients_dir") is None:
        _not_trusted(above["config"], name)
    remove_client(ctx.obj, name)
    click.echo(f"Removed {name}. Shut it out with: postern reload")


def _not_trusted(config: Path, name: str) -> None:
    from relay.config.load import load

    for listener in load(config).listeners:
        for network, trusted in listener.trust_networks.items():
            if trusted == name:
                what = f"the listener {listener.name} trusts {network} as {name}: while it does, no reload is taken up"
                hint = "take it out of trust_networks, then remove the client and reload"
                raise ProblemsError(Problem(where=str(config), what=what, hint=hint))


@command.command(help="Give a client a new secret; the old one stays good for a while.")
@click.argument("name")
@click.option("--overlap", default="1d", show_default=True, help="How long the old secret stays good; 0: not at all.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def rotate(directory: Path, name: str, overlap: str, *, as_json: bool) -> None:
    """Give a client a new secret."""
    from relay.config.clients import changing, client_path, digest, generate_secret, load_client, write_client
    from relay.config.units import parse_duration

    try:
        seconds = parse_duration(overlap)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overlap") from None
    if seconds > _LONGEST_OVERLAP:
        raise click.BadParameter("is longer than 1y: the old secret would stay good", param_hint="--overlap")
    secret = generate_secret()
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds) if seconds else None
    with changing(directory):
        client = load_client(client_path(directory, name))
        rotated = client.model_copy(
            update={
                "secret_sha256": digest(secret),
                "previous_secret_sha256": client.secret_sha256 if until else None,
                "previous_until": until,
            }
        )
        path = write_client(directory, rotated, replace=True)
    _tell_secret(name, secret, path, as_json=as_json, until=until.isoformat() if until else "")
