"""``postern dkim``: make, show and check signing keys."""

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from relay.cli.options import Group, config_option, only_asks
from relay.core.errors import AddressError, Problem, ProblemsError

if TYPE_CHECKING:
    from relay.config.settings import Settings
    from relay.net.resolver import Answer, ResolverOptions
    from relay.protect.dkim import PrivateKey, SigningKey

KEEP_RECORD: Final = 7 * 86_400.0
"""Seconds a record stays published after its key's last signature: messages are on their way for days."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    directory: Path
    settings: "Settings | None"


@click.group(cls=Group, name="dkim", help="Make, show and check signing keys.")
@config_option(", which says where keys are kept")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path, file_okay=False), help="Use this directory instead."
)
@click.pass_context
def command(ctx: click.Context, config: Path, directory: Path | None) -> None:
    """Find the keys."""
    if only_asks(ctx):
        return
    settings = None
    if directory is None:
        from relay.config.load import load

        settings = load(config)
        directory = settings.dkim.dir
    ctx.obj = _Places(directory=directory.absolute(), settings=settings)


def _keys(places: _Places) -> "tuple[SigningKey, ...]":
    """Every key: those in the directory, and those the configuration names."""
    from relay.config.signing_keys import configured_signing_keys, load_signing_keys

    if places.settings is None:
        return load_signing_keys(places.directory)
    return configured_signing_keys(places.settings.dkim)


def _domain(text: str) -> str:
    from relay.core.address import normalise_domain

    try:
        return normalise_domain(text)
    except AddressError as error:
        raise ProblemsError(Problem(where=text, what=str(error))) from None


# --- new --------------------------------------------------------------------


@command.command(help="Make a key for DOMAIN and print the record to publish.")
@click.argument("domain")
@click.option("--selector", help="Name of the key; by default today's date.")
@click.option(
    "--algorithm", type=click.Choice(["rsa", "ed25519", "both"]), default="both", show_default=True,
    help="What it signs with; both: a key of each.",
)  # fmt: skip
@click.option(
    "--activate-in",
    metavar="DURATION",
    help="When it begins to sign, so that its record is known by then: by default at once for a domain's first key, "
    "2d for another.",
)
@click.pass_obj
def new(places: _Places, domain: str, selector: str | None, algorithm: str, activate_in: str | None) -> None:
    """Generate, write and show keys; keys that sign now go on until the new ones begin."""
    from relay.config.keyfiles import give_to
    from relay.config.signing_keys import check_selector, write_signing_key
    from relay.protect.dkim import SigningKey

    domain, now = _domain(domain), time.time()
    existing = [key for key in _keys(places) if key.domain == domain]
    active_from = now + _delay(activate_in, first=not existing)
    name = (selector or datetime.fromtimestamp(now, UTC).strftime("p%Y%m%d")).lower()
    names = {"rsa": name, "ed25519": f"{name}-ed"} if algorithm == "both" else {algorithm: name}
    try:
        for one in names.values():
            check_selector(one)
    except ValueError as error:
        raise ProblemsError(Problem(where=f"--selector {selector}", what=str(error))) from None
    for one in names.values():
        path = places.directory / domain / f"{one}.pem"
        if path.exists() or any(key.selector == one for key in existing):
            raise ProblemsError(Problem(where=str(path), what="is there already", hint="choose another --selector"))
    user = places.settings.user if places.settings else None
    give_to(places.directory, user)
    give_to(places.directory / domain, user)
    for kind, one in names.items():
        key = SigningKey(domain=domain, selector=one, private=_generate(kind), active_from=float(int(active_from)))
        click.echo(f"; {write_signing_key(places.directory, key)} signs from {_time(key.active_from)}")
        click.echo(zone_record(key))
    click.echo("; Publish this, wait until `postern dkim check` finds it, then run: postern reload")
    if existing:
        click.echo("; Keys that sign now go on until then; leave their records for a week after.")


def _delay(text: str | None, *, first: bool) -> float:
    from relay.config.units import parse_duration

    if text is None:
        return 0.0 if first else 2 * 86_400.0
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ProblemsError(Problem(where=f"--activate-in {text}", what=str(error))) from None


def _generate(kind: str) -> "PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

    return generate_private_key(65537, 2048) if kind == "rsa" else Ed25519PrivateKey.generate()


def zone_record(key: "SigningKey") -> str:
    """The TXT record as a zone file has it, cut into strings of at most 255 octets."""
    from relay.protect.dkim import record_strings, record_text

    strings = "\n    ".join(f'"{text}"' for text in record_strings(record_text(key)))
    return f"{key.record_name}. 3600 IN TXT (\n    {strings} )"


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- show -------------------------------------------------------------------


def _role(key: "SigningKey", keys: "tuple[SigningKey, ...]", now: float) -> str:
    """What a key does now: ``signs``, ``waits``, ``ended``, or is ``superseded`` by a newer one of its algorithm."""
    if not key.is_active(now):
        return "waits" if key.active_from > now else "ended"
    rivals = (other for other in keys if (other.domain, other.algorithm) == (key.domain, key.algorithm))
    newest = max((one for one in rivals if one.is_active(now)), key=lambda one: (one.active_from, one.selector))
    return "signs" if newest is key else "superseded"


def _over_since(key: "SigningKey", keys: "tuple[SigningKey, ...]", now: float) -> float | None:
    """Since when a key no longer signs; ``None`` while it does or will."""
    ends = [key.active_until] if key.active_until is not None and key.active_until <= now else []
    for other in keys:
        same = (other.domain, other.algorithm) == (key.domain, key.algorithm)
        if same and other.is_active(now) and (other.active_from, other.selector) > (key.active_from, key.selector):
            ends.append(other.active_from)
    return min(ends) if ends else None


@command.command(help="Show the keys, what each does now, and its record.")
@click.argument("domain", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(places: _Places, domain: str | None, *, as_json: bool) -> None:
    """Print keys without their private parts."""
    from relay.protect.dkim import record_text

    now, keys = time.time(), _keys(places)
    wanted = [key for key in keys if domain is None or key.domain == _domain(domain)]
    if as_json:
        facts = [
            {
                "domain": key.domain,
                "selector": key.selector,
                "algorithm": key.algorithm,
                "role": _role(key, keys, now),
                "active_from": key.active_from,
                "active_until": key.active_until,
                "record_name": key.record_name,
                "record": record_text(key),
            }
            for key in wanted
        ]
        click.echo(orjson.dumps(facts, option=orjson.OPT_INDENT_2).decode())
        return
    for key in wanted:
        until = f" until {_time(key.active_until)}" if key.active_until is not None else ""
        click.echo(f"; {key.algorithm}: {_role(key, keys, now)}, from {_time(key.active_from)}{until}")
        over = _over_since(key, keys, now)
        if over is not None and now - over > KEEP_RECORD:
            click.echo("; It has not signed for a week: its file and its record can go.")
        click.echo(zone_record(key))
    if not wanted:
        click.echo("There is no key. Make one with `postern dkim new DOMAIN`.")


# --- check ------------------------------------------------------------------


@command.command(help="Compare the keys with what DNS says. Exit status 1 when mail would not verify.")
@click.argument("domain", required=False)
@click.option("--server", metavar="IP[:PORT]", help="Ask this name server.")
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 60),
    default=5.0,
    show_default=True,
    help="Seconds to wait for each key's record.",
)
@click.pass_context
def check(ctx: click.Context, domain: str | None, server: str | None, timeout: float) -> None:
    """Look every needed record up."""
    places: _Places = ctx.obj
    now, keys = time.time(), _keys(places)
    wanted = tuple(key for key in keys if domain is None or key.domain == _domain(domain))
    if not wanted:
        raise ProblemsError(Problem(where=domain or str(places.directory), what="has no key"))
    answers = asyncio.run(_ask(wanted, _resolver_options(places, server, timeout)))
    failed = False
    for key, answer in zip(wanted, answers, strict=True):
        role = _role(key, keys, now)
        fault = compare(key, answer)
        failed = failed or bool(fault and role == "signs")
        click.echo(f"{key.record_name}: {role}: {fault or 'published as it should be'}")
    if failed:
        ctx.exit(1)


def _resolver_options(places: _Places, server: str | None, timeout: float) -> "ResolverOptions":
    from relay.net.resolver import ResolverOptions

    servers = tuple(map(str, places.settings.dns.nameservers)) if places.settings else ()
    port = places.settings.dns.port if places.settings else 53
    if server is not None:
        host, _, given = server.rpartition(":") if server.count(":") == 1 else (server, "", "53")
        if not given.isdecimal() or not _is_address(host):
            raise ProblemsError(Problem(where=f"--server {server}", what="is not an IP address, nor one with a port"))
        servers, port = (host,), int(given)
    return ResolverOptions(nameservers=servers, port=port, timeout=timeout, lifetime=timeout)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


async def _ask(keys: "tuple[SigningKey, ...]", options: "ResolverOptions") -> "list[Answer]":
    from dns.resolver import NoResolverConfiguration

    from relay.net.resolver import Resolver

    try:
        resolver = Resolver(options)
    except (NoResolverConfiguration, ValueError) as error:
        hint = "give one with --server"
        raise ProblemsError(Problem(where="name server", what=str(error) or "none is known", hint=hint)) from None
    try:
        return await asyncio.gather(*(resolver.lookup(key.record_name, "TXT") for key in keys))
    finally:
        await resolver.close()


def compare(key: "SigningKey", answer: "Answer") -> str:
    """What is wrong with the published record of a key; empty when nothing is (RFC 6376 section 3.6.1)."""
    from relay.net.resolver import Found

    if answer.found is Found.FAILED:
        return f"DNS does not answer: {answer.detail}"
    texts = [b"".join(record.strings).decode("utf-8", "replace") for record in answer.records]
    if not texts:
        return "no record"
    if len(texts) > 1:
        return "more than one record: verifiers may take either"
    return _compare_tags(key, _tags(texts[0]))


def _compare_tags(key: "SigningKey", tags: dict[str, str]) -> str:
    from relay.protect.dkim import public_text

    kind = tags.get("k", "rsa")
    published = "".join(tags.get("p", "").split())
    faults = {
        "not a DKIM1 record": tags.get("v", "DKIM1") != "DKIM1",
        "the record has no key (p=)": "p" not in tags,
        "the key is revoked (empty p=)": not published,
        "another key is published": published != public_text(key),
        f"the record says k={kind}, the key is {key.algorithm}": kind != key.algorithm,
        "the record does not allow sha256 (h=)": "sha256" not in _listed(tags.get("h", "sha256")),
        "the record says testing (t=y): verifiers ignore the signature": "y" in _listed(tags.get("t", "")),
    }
    return next((fault for fault, holds in faults.items() if holds), "")


def _listed(text: str) -> list[str]:
    return [one.strip() for one in text.split(":")]


def _tags(text: str) -> dict[str, str]:
    pairs = (item.partition("=") for item in text.split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip()}
