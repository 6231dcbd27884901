"""``postern proof``: a page about one message that a compliance officer can file."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import orjson

from relay.cli.options import config_option, one_form
from relay.cli.proof_words import meanings
from relay.core.errors import PosternError

if TYPE_CHECKING:
    from relay.observe.proof import Copy, Step, Story
    from relay.observe.trail import Report
    from relay.protect.sealing import RingVault

_PORTAL: Final = (
    "the portal: the message was sealed there, and could be read over HTTPS alone by who proved that they read the "
    "mailbox; what travelled as below was a notice without its content"
)
_ALONE: Final = "what {node} did: what other nodes of its store did stands in their trails (add each with --trail)"
_TOGETHER: Final = "what the nodes did whose trails are named here"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the trails tell.

    Attributes:
        story: of the message.
        reports: the directory of each trail that was read, and whether it is whole; this node's own first.
        node: this node's name where others may have had to do with the message, empty where it is the only one.
    """

    story: "Story"
    reports: Sequence[tuple[Path, "Report"]]
    node: str

    @property
    def is_partial(self) -> bool:
        """Whether other nodes may have done what no trail here tells of."""
        return bool(self.node) and len(self.reports) == 1


@click.command(name="proof")
@click.argument("message_id", metavar="MESSAGE-ID")
@config_option(", which says where keys and the audit trail are kept")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--html", "as_html", is_flag=True, help="Print a page to be filed; print it from a browser for PDF.")
@click.option("--mailboxes", is_flag=True, help="Show whole addresses, not only their domains.")
@click.option(
    "--trail",
    "trails",
    multiple=True,
    metavar="DIR",
    help="A copy of another node's audit trail; once for each node.",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
def command(
    message_id: str, config: Path, *, as_json: bool, as_html: bool, mailboxes: bool, trails: tuple[Path, ...]
) -> None:
    """Show how a message was protected, from the audit trail.

    Tells who gave it, what was decided by which version of which rule, how each copy travelled and where it ended, and
    whether the trail that says so is whole. The exit status is 1 when the trail is not.
    """
    one_form(as_json=as_json, as_html=as_html)
    found = _read(message_id, config, trails, mailboxes=mailboxes)
    if as_json:
        chains = [_chain(directory, report) for directory, report in found.reports]
        others = {"node": found.node, "other_trails": chains[1:], "other_nodes_missing": found.is_partial}
        click.echo(orjson.dumps({**asdict(found.story), "trail": chains[0], **others}, option=orjson.OPT_INDENT_2))
    elif as_html:
        click.echo(_page(found), nl=False)
    else:
        _print(found)
    if any(report.faults for _, report in found.reports):
        raise SystemExit(1)


def _chain(directory: Path, report: "Report") -> dict[str, Any]:
    return {
        "directory": str(directory), "whole": not report.faults, "records": report.link.count,
        "hash": report.link.hash.hex(), "heads": report.heads, "unsigned": report.unsigned,
        "faults": [str(fault) for fault in report.faults],
    }  # fmt: skip


def _read(message_id: str, config: Path, trails: Sequence[Path], *, mailboxes: bool) -> _Found:
    import os

    from relay.config.keyfiles import load_ring
    from relay.config.load import load
    from relay.config.store import is_postgres
    from relay.observe.proof import tell
    from relay.observe.trail import verify
    from relay.protect.chain import public_keys
    from relay.protect.sealing import RingVault

    settings = load(config)
    ring = load_ring(settings.keys_dir)
    vault, keys = RingVault(ring, os.urandom), public_keys(ring)
    directories = list(dict.fromkeys([settings.audit.dir, *trails]))
    story = tell(_records(directories, vault, message_id, mailboxes=mailboxes), message_id)
    node = settings.node if is_postgres(settings.store) else ""
    if story is None:
        elsewhere = "; another node may have taken it: add its trail with --trail" if node and not trails else ""
        told = f"the audit trail tells of no such message (what is new takes some seconds){elsewhere}"
        raise PosternError(f"{message_id}: {told}")
    heads = [settings.audit.heads_file, *[None] * len(trails)]  # where others keep theirs is not known here
    reports = [
        (one, verify(one, vault=vault, keys=keys, heads=kept)) for one, kept in zip(directories, heads, strict=False)
    ]
    return _Found(story=story, reports=reports, node=node)


def _records(
    directories: Sequence[Path], vault: "RingVault", message_id: str, *, mailboxes: bool
) -> list[dict[str, Any]]:
    """The records about a message from all trails, in order: decisions first, for the nodes' clocks may differ."""
    from relay.observe.trail import show

    found = [
        record for one in directories for record in show(one, vault=vault, message_id=message_id, mailboxes=mailboxes)
    ]
    if len(directories) > 1:
        found.sort(key=lambda record: (record["kind"] not in {"accepted", "refused", "decided"}, record["at"]))
    return found


# --- telling -----------------------------------------------------------


def _acceptance(story: "Story") -> list[tuple[str, str]]:
    facts = story.accepted
    tls = f"{facts.get('tls_version', '')} {facts.get('tls_cipher', '')}".strip()
    return [
        ("message", story.message_id),
        ("taken", _moment(story.at)),
        ("from", str(facts.get("sender") or "<>")),
        ("by client", f"{facts.get('client') or '-'} at {facts.get('network') or '-'}"),
        ("over", tls or "no TLS"),
        ("size", f"{facts.get('size', 0):,} octets"),
        ("patients' data", f"{facts.get('phi', '-')} ({_findings(facts.get('findings') or {})})"),
        ("scanned by", str(facts.get("engine") or "-")),
    ]  # fmt: skip


def _findings(findings: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(findings.items())) or "no findings"


def _decision(copy: "Copy") -> list[tuple[str, str]]:
    facts = copy.decision
    rows = [
        ("decided", f"{facts.get('action', '-')} by rule {facts.get('rule') or '-'}"),
        ("policy", str(facts.get("policy_version") or "-")),
        ("least level", str(facts.get("floor", "-"))),
        ("methods", ", ".join(facts.get("methods", ())) or "-"),
    ]
    if facts.get("floors"):
        rows.append(("floors that held", ", ".join(facts["floors"])))
    if facts.get("passes_over"):
        rows.append(("passed over", "MTA-STS and DANE of the recipient's domain: the sender asked (TLS-Required: No)"))
    if facts.get("overridden"):
        rows.append(("set aside", f"{', '.join(facts['overridden'])}: {facts.get('override_reason', '')}"))
    return rows


def _end(copy: "Copy", *, is_partial: bool = False) -> list[tuple[str, str]]:
    if not copy.fate and is_partial:
        return [("ended", "not by this node: it is in the queue, or another node's trail tells")]
    if not copy.fate:
        return [("ended", "not yet: it is in the queue")]
    facts = copy.fate
    why = "; ".join(text for text in (str(facts.get("why") or ""), str(facts.get("reply") or "")) if text)
    by = [("protected by", _PORTAL)] if facts.get("method") == "portal" and copy.was_taken else []
    ended = ("ended", f"{facts.get('fate')} on {_moment(copy.ended_at)}")
    return [ended, ("because", why or "-"), *by, *_protection(copy)]


def _protection(copy: "Copy") -> list[tuple[str, str]]:
    proof = copy.protection
    if not proof:
        return []
    way = "travelled" if copy.was_taken else "offered"
    travelled = (way, f"{proof.get('level')}, to {proof.get('host')} [{proof.get('address')}]")
    less = ("why not more", str(proof.get("failure") or "-"))
    if not proof.get("tls_version"):
        return [travelled, ("TLS", "none"), less]
    end = _moment(proof["not_after"]) if proof.get("not_after") else "-"
    return [
        travelled,
        ("checked by", str(proof.get("checked_by") or "nothing")),
        ("vouched for by", str(proof.get("vouched_by"))),
        ("TLS", f"{proof.get('tls_version')} {proof.get('cipher') or ''}".strip()),
        ("certificate", f"SHA-256 {proof.get('certificate_sha256') or '-'}"),
        ("issued by", f"{proof.get('issuer') or '-'}, ends {end}"),
        ("its names", ", ".join(proof.get("names") or ()) or "-"),
        ("chain as sent", ", ".join(proof.get("chain") or ()) or "-"),
        less,
    ]  # fmt: skip


def _step(step: "Step") -> str:
    facts = step.facts
    waits = facts.get("waits")
    why = "; ".join(str(one.get("why", "")) for one in waits) if isinstance(waits, list) else ""
    names = ("reason", "detail", "operation", "alert", "event", "cause", "class", "why")
    who = facts.get("operator") if step.kind == "operator" else None
    texts = (why, *(facts.get(name) for name in names), f"by {who}" if who else "")
    told = "; ".join(str(text) for text in texts if text)
    return f"{step.kind}: {told}" if told else step.kind


def _trail(directory: Path, report: "Report") -> list[tuple[str, str]]:
    whole = "whole" if not report.faults else f"NOT whole: {len(report.faults)} faults, see postern audit verify"
    return [
        ("kept in", str(directory)),
        ("the trail is", whole),
        ("head of the chain", f"{report.link.hash.hex()} after {report.link.count} records"),
        ("signed heads", f"{report.heads}; {report.unsigned} records after the last of them"),
    ]


def _sections(found: _Found) -> list[tuple[str, list[tuple[str, str]]]]:
    story = found.story
    sections = [("Acceptance", _acceptance(story))]
    for copy in story.copies:
        way = [(_moment(step.at), _step(step)) for step in copy.steps]
        end = _end(copy, is_partial=found.is_partial)
        sections.append((f"Copy {copy.number + 1}: {copy.recipient}", [*_decision(copy), *way, *end]))
    if story.others:
        sections.append(("Besides", [(_moment(step.at), _step(step)) for step in story.others]))
    trails = [row for directory, report in found.reports for row in _trail(directory, report)]
    if found.node:
        trails.append(("it tells of", _ALONE.format(node=found.node) if found.is_partial else _TOGETHER))
    return [*sections, ("Audit trail", trails), ("What the words mean", meanings(story))]


def _print(found: _Found) -> None:
    for title, rows in _sections(found):
        click.echo(f"\n{title}" if title != "Acceptance" else title)
        for name, value in rows:
            click.echo(f"  {name:<24} {value}")


def _page(found: _Found) -> str:
    from relay.cli import page

    parts = [page.note(f"Made from the audit trail on {_moment(dt.datetime.now(dt.UTC).timestamp())}.")]
    for title, rows in _sections(found):
        parts += [page.heading(title), page.facts(rows)]
    return page.page(f"Proof of protection: {found.story.message_id}", parts)


def _moment(seconds: Any) -> str:
    return dt.datetime.fromtimestamp(float(seconds), dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
