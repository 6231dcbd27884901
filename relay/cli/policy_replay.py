"""``postern policy replay``: what a policy would have made of mail that was decided before, before it is taken up."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import tables
from relay.cli.options import moment
from relay.core.errors import PosternError

if TYPE_CHECKING:
    from relay.cli.policy import Options
    from relay.config.settings import Settings
    from relay.core.decision import Treatment
    from relay.core.envelope import MessageFacts
    from relay.observe.policy_history import PolicyText
    from relay.policy.engine import CompiledPolicy
    from relay.policy.replay import Outcome, Wording

_SHOWN: Final = 3
"""Recipients' domains named in a row."""


@dataclass(frozen=True, slots=True)
class _Course:
    """What becomes of a copy, as the trail and a treatment both say it."""

    rule: str
    action: str
    methods: tuple[str, ...]
    floor: str

    def __str__(self) -> str:
        ways = f" by {', '.join(self.methods)}" if self.action == "deliver" else ""
        return f"{self.rule or '-'}: {self.action}{ways}, floor {self.floor}"


@dataclass(slots=True)
class _Row:
    """Copies that go from one course to another."""

    domains: Counter[str] = field(default_factory=Counter)
    example: str = ""

    @property
    def copies(self) -> int:
        return self.domains.total()


@dataclass(slots=True)
class _Tally:
    """All copies of the time; those in ``unsure`` hang on what cannot be told, and are counted in the others too."""

    same: int = 0
    changed: dict[tuple[_Course, _Course], _Row] = field(default_factory=dict)
    unsure: dict[str, _Row] = field(default_factory=dict)


@click.command(name="replay")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option(
    "--since", default="1d", show_default=True, help="Mail decided from 2026-11-22, 2026-11-22T10:00 or 1d ago on."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def replay(options: "Options", file: Path | None, since: str, *, as_json: bool) -> None:
    """Show what a policy would change for mail that was decided before.

    Asks FILE (the configuration's policy when not given) about each copy in the audit trail and compares with what was
    decided. Nothing is changed. The trail keeps no subjects, headers or attachments: a copy that hangs on a new
    condition over these is told apart.
    """
    from relay.config.load import load
    from relay.config.policies import load_policy

    settings = options.settings or load(options.config)
    policy = load_policy(options.policy_file(file), methods=options.methods, now=time.time())
    tally = _replayed(settings, policy, moment(since) or 0.0)
    if as_json:
        _print_json(tally, policy)
    else:
        _print(tally, policy, since)


# --- asking -----------------------------------------------------------


def _replayed(settings: "Settings", policy: "CompiledPolicy", since: float) -> _Tally:
    from relay.app.stock import open_vault
    from relay.observe.policy_history import read_files
    from relay.observe.trail import show
    from relay.policy.replay import wording

    texts = _Texts(settings)
    now = wording([one.text for one in read_files(policy.files) if one.text])
    tally = _Tally()
    message, taken = "", dict[str, Any]()
    for record in show(settings.audit.dir, vault=open_vault(settings), since=since, mailboxes=True):
        facts = record["facts"]
        if record["kind"] in {"accepted", "refused"}:  # its decisions follow it at once
            message, taken = record["message_id"], {**facts, "at": record["at"]}
        elif record["kind"] == "decided" and record["message_id"] == message:
            for number in facts["numbers"]:
                _ask(policy, now, texts, taken, facts, number, tally, message)
    return tally


class _Texts:
    """How the policies read that decided, by version; read when first asked for."""

    def __init__(self, settings: "Settings") -> None:
        self._settings = settings
        self._known: dict[str, Wording | None] = {}

    def of(self, version: str) -> "Wording | None":
        """``None`` where the history does not hold it: less can be told then."""
        from relay.cli.policy_history import text_of
        from relay.policy.replay import wording

        if version not in self._known:
            try:
                text: PolicyText = text_of(self._settings, version)
                self._known[version] = wording([one.text for one in text.files if one.text])
            except PosternError:
                self._known[version] = None
        return self._known[version]


def _ask(
    policy: "CompiledPolicy", now: "Wording", texts: _Texts, taken: Mapping[str, Any], decided: Mapping[str, Any],
    number: int, tally: _Tally, message: str,
) -> None:  # fmt: skip
    from relay.core.address import Address
    from relay.policy.replay import Decided, judge

    recipient = Address.parse(taken["recipients"][number])
    then = Decided(
        rule=decided["rule"], floors=frozenset(decided["floors"]), wording=texts.of(decided["policy_version"])
    )
    found = bool(taken["findings"]) or bool(taken["findings_truncated"])
    outcome = judge(policy, now, _facts(taken), recipient, then, found=found)
    _count(tally, _was(decided), outcome, recipient.domain, message)


def _count(tally: _Tally, was: _Course, outcome: "Outcome", domain: str, message: str) -> None:
    becomes = _becomes(outcome.treatment)
    rows = [tally.unsure.setdefault(what, _Row()) for what in outcome.unsure]
    if becomes == was:
        tally.same += 1
    else:
        rows.append(tally.changed.setdefault((was, becomes), _Row()))
    for row in rows:
        row.domains[domain] += 1
        row.example = row.example or message


def _facts(taken: Mapping[str, Any]) -> "MessageFacts":
    from relay.core.address import Address, ReversePath
    from relay.core.envelope import ClientSession, Envelope, MessageFacts, Recipient
    from relay.core.phi import Phi, PhiVerdict

    sender = taken["sender"]
    return MessageFacts(
        session=ClientSession(**{key: taken[key] for key in ("client", "tenant", "listener", "network", "identity")}),
        envelope=Envelope(
            reverse_path=ReversePath(Address.parse(sender) if sender else None),
            recipients=tuple(Recipient(address=Address.parse(one)) for one in taken["recipients"]),
        ),
        subject="",
        headers=(),
        size=taken["size"],
        verdict=PhiVerdict(phi=Phi[taken["phi"].upper()], subject_phi=Phi[taken["subject_phi"].upper()]),
        stream=taken["stream"],
        received_at=taken["at"],
    )


def _was(decided: Mapping[str, Any]) -> _Course:
    return _Course(decided["rule"], decided["action"], tuple(decided["methods"]), decided["floor"])


def _becomes(treatment: "Treatment") -> _Course:
    methods = tuple(method.value for method in treatment.methods)
    return _Course(treatment.rule, treatment.action.value, methods, treatment.floor.word)


# --- telling ----------------------------------------------------------


def _falls(was: _Course, becomes: _Course) -> bool:
    from relay.core.level import Level

    return Level.from_word(becomes.floor) < Level.from_word(was.floor)


def _rows(tally: _Tally) -> Iterator[tuple[_Course, _Course, _Row]]:
    """Those whose protection falls first, then the most."""
    found = sorted(tally.changed.items(), key=lambda item: (not _falls(*item[0]), -item[1].copies))
    yield from ((was, becomes, row) for (was, becomes), row in found)


def _print(tally: _Tally, policy: "CompiledPolicy", since: str) -> None:
    changed = sum(row.copies for row in tally.changed.values())
    click.echo(f"{policy.name}, version {policy.version[:12]}, asked about mail since {since}:")
    click.echo(f"{tally.same + changed} copies: {tally.same} as before, {changed} change")
    if tally.changed:
        table = tables.table("copies", "was", "becomes", "protection", "to", "such as")
        for was, becomes, row in _rows(tally):
            falls = "FALLS" if _falls(was, becomes) else "rises" if _falls(becomes, was) else "as before"
            table.add_row(str(row.copies), str(was), str(becomes), falls, _domains(row), row.example)
        tables.show(table)
    for what, row in tally.unsure.items():
        verb = "matches" if what.startswith("rule") else "holds"
        copies = f"{row.copies} cop{'y' if row.copies == 1 else 'ies'}, such as {row.example}"
        click.echo(f"whether the {what} {verb} cannot be told for {copies}: taken to be as it was then")
    if tally.unsure:
        click.echo("The trail keeps no subjects, headers, attachments or places of findings. Try such messages with")
        click.echo("  postern policy explain MESSAGE.eml --from A --to B --policy FILE")


def _domains(row: _Row) -> str:
    named = ", ".join(domain for domain, _ in row.domains.most_common(_SHOWN))
    return f"{named} and {len(row.domains) - _SHOWN} more" if len(row.domains) > _SHOWN else named


def _print_json(tally: _Tally, policy: "CompiledPolicy") -> None:
    import orjson

    def course(one: _Course) -> dict[str, Any]:
        return {"rule": one.rule, "action": one.action, "methods": list(one.methods), "floor": one.floor}

    def counted(row: _Row) -> dict[str, Any]:
        return {"copies": row.copies, "domains": dict(row.domains), "example": row.example}

    told = {
        "version": policy.version,
        "same": tally.same,
        "changed": [
            {"was": course(was), "becomes": course(becomes), "falls": _falls(was, becomes), **counted(row)}
            for was, becomes, row in _rows(tally)
        ],
        "unsure": [{"by": what, **counted(row)} for what, row in tally.unsure.items()],
    }
    click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
