"""``postern policy``: check, explain and test policies."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from relay.cli import tables
from relay.cli.options import Group, address, config_option, moment, only_asks
from relay.cli.policy_history import history
from relay.cli.policy_replay import replay
from relay.core.decision import MethodName
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from rich.tree import Tree

    from relay.config.settings import Settings
    from relay.core.address import Address
    from relay.core.decision import Explanation, PolicyDecision
    from relay.core.envelope import MessageFacts
    from relay.core.ports import ScanReport
    from relay.policy.engine import CompiledPolicy
    from relay.policy.selftest import CaseResult

_EXAMPLE: Final = Path("policies/main.yaml")
_MAX_MESSAGE: Final = 100 * 1024 * 1024
_NEED_NOTHING: Final = ("schema",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What all the verbs share.

    Attributes:
        config: where the configuration, which names the policy and has the methods, is looked for.
        settings: what stands there; None where there is no configuration.
        methods: the methods taken as configured.
    """

    config: Path
    settings: "Settings | None"
    methods: frozenset[MethodName]

    def policy_file(self, given: Path | None) -> Path:
        """The file given, else the configuration's, else the one in this directory.

        Raises:
            ProblemsError: there is none of these.
        """
        if given is not None:
            return given
        if self.settings is not None:
            return self.settings.policy
        if _EXAMPLE.exists():
            return _EXAMPLE
        hint = "name the file, or the configuration with --config"
        raise ProblemsError(Problem(where=str(self.config), what="there is no configuration here", hint=hint))


@click.group(cls=Group, name="policy", help="Check, explain and test policies.")
@config_option(", which names the policy file")
@click.option(
    "--method",
    "methods",
    type=click.Choice([method.value for method in MethodName]),
    multiple=True,
    help="A method to take as configured. Repeatable.  [default: those of the configuration, else tls]",
)
@click.pass_context
def command(ctx: click.Context, config: Path, methods: tuple[str, ...]) -> None:
    """Keep what all the verbs share."""
    if only_asks(ctx) or ctx.invoked_subcommand in _NEED_NOTHING:
        return
    settings = None
    if config.exists():
        from relay.config.load import load

        settings = load(config)
    ctx.obj = Options(config=config, settings=settings, methods=_methods(methods, settings))


def _methods(given: tuple[str, ...], settings: "Settings | None") -> frozenset[MethodName]:
    """The methods given; else those that mail has here, so that no fault is told of what works, and none is missed."""
    if given:
        return frozenset(MethodName(method) for method in given)
    if settings is None:
        return frozenset({MethodName.TLS})
    from relay.config.methods import configured_methods

    return configured_methods(settings)


@command.command(help="Check a policy: every fault and warning with its place, then the tests inside.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def check(options: Options, file: Path | None, *, as_json: bool) -> None:
    """Compile, warn, run the tests; exit status 1 when the policy could not go live."""
    policy, faults = _load(options.policy_file(file), options)
    results = _run_tests(policy, options) if policy else ()
    faults += [problem for result in results for problem in result.problems]
    faults += _mode(policy, options.policy_file(file)) if policy else []
    faults += _routes_that_are_missing(policy, options) if policy else []
    warnings = [*policy.warnings, *_names_that_nobody_has(policy, options)] if policy else []
    if as_json:
        _print_json(
            {
                "sound": not faults,
                "version": policy.version if policy else None,
                "errors": [_problem(one) for one in faults],
                "warnings": [_problem(one) for one in warnings],
                "tests": {"passed": sum(result.passed for result in results), "all": len(results)},
            }
        )
    else:
        for one in warnings:
            click.echo(click.style("warning: ", fg="yellow") + str(one))
        for one in faults:
            click.echo(click.style("error: ", fg="red") + str(one))
        if policy and not faults:
            counts = f"{len(policy.rules)} rules, {len(policy.floors)} floors, {len(results)} tests passed"
            click.echo(f"{policy.name}: sound ({counts}; version {policy.version[:12]})")
    if faults:
        raise SystemExit(1)


@command.command(name="test", help="Run the tests inside a policy.")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def run_inside(options: Options, file: Path | None, *, as_json: bool) -> None:
    """Run them and say of each whether it passed; exit status 1 when one failed."""
    policy, faults = _load(options.policy_file(file), options)
    if policy is None:
        raise ProblemsError(*faults)
    results = _run_tests(policy, options)
    if as_json:
        _print_json(
            [
                {
                    "name": result.name,
                    "where": result.where,
                    "passed": result.passed,
                    "problems": [_problem(one) for one in result.problems],
                }
                for result in results
            ]
        )
    else:
        for result in results:
            mark = click.style("pass", fg="green") if result.passed else click.style("FAIL", fg="red")
            click.echo(f"{mark}  {result.name}")
            for one in result.problems:
                click.echo(f"      {one}")
        click.echo(f"{sum(result.passed for result in results)} of {len(results)} tests passed")
    if not all(result.passed for result in results):
        raise SystemExit(1)


@command.command(help="Show which rule decides over a message for each recipient, and why.")
@click.argument("message", type=click.File("rb"))
@click.option("--from", "sender", default="", help="Envelope sender; empty for the null sender.")
@click.option("--to", "recipients", required=True, multiple=True, help="A recipient. Repeatable.")
@click.option("--client", default="", help="Name of the client that hands it in.")
@click.option("--tenant", default="", help="Its tenant.")
@click.option("--listener", default="", help="The listener it comes through.")
@click.option("--network", default="", help="The IP address it comes from.")
@click.option("--identity", default="", help="The authenticated identity.")
@click.option(
    "--stream", type=click.Choice(["transactional", "bulk"]), default="transactional", show_default=True,
    help="The message's stream.",
)  # fmt: skip
@click.option("--received", help="When: 2026-03-02T09:00 (UTC), or 2h (ago); now when not given.")
@click.option("--policy", "file", type=click.Path(path_type=Path), help="The policy's root file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def explain(options: Options, /, message: Any, *, as_json: bool, file: Path | None, **given: Any) -> None:
    """Scan the message as Postern would, decide for each recipient and show every condition's value."""
    recipients = [address("--to", text) for text in given["recipients"]]
    sender = address("--from", given["sender"]) if given["sender"].strip("<>") else None
    if given["network"]:
        _ip_address(given["network"])
    given["received"] = moment(given["received"])
    policy, faults = _load(options.policy_file(file), options)
    if policy is None:
        raise ProblemsError(*faults)
    content = message.read(_MAX_MESSAGE + 1)
    if len(content) > _MAX_MESSAGE:
        hint = "Postern would refuse it at the door"
        raise ProblemsError(Problem(where=message.name, what=f"larger than {_MAX_MESSAGE} octets", hint=hint))
    facts = _facts(content, sender, recipients, given, options)
    explanations = [policy.explain(facts, recipient) for recipient in recipients]
    if as_json:
        _print_json([_explanation(one, facts) for one in explanations])
        return
    for one in explanations:
        click.secho(f"{one.decision.recipient}: {_headline(one.decision)}", bold=True)
        tables.show(_tree(one, facts))


command.add_command(history)
command.add_command(replay)


@command.command(name="schema", help="Print the JSON Schema of policy files, for editors.")
def print_schema() -> None:
    """Print what stands in conf/policy.schema.json."""
    from relay.policy.jsonschema import json_schema

    click.echo(json_schema(), nl=False)


# --- work -------------------------------------------------------------


def _load(path: Path, options: Options) -> tuple["CompiledPolicy | None", list[Problem]]:
    from relay.config.policies import load_policy

    try:
        return load_policy(path, methods=options.methods, now=time.time()), []
    except ProblemsError as error:
        return None, list(error.problems)


def _run_tests(policy: "CompiledPolicy", options: Options) -> tuple["CaseResult", ...]:
    from relay.policy.selftest import run_tests

    return run_tests(policy, _scan(options)) if policy.tests else ()


def _mode(policy: "CompiledPolicy", path: Path) -> list[Problem]:
    from relay.config.policies import prove_mode

    return list(prove_mode(policy, path))


def _routes_that_are_missing(policy: "CompiledPolicy", options: Options) -> list[Problem]:
    """Faults that only the configuration shows; without one nobody knows which routes there are."""
    if options.settings is None:
        return []
    from relay.config.prove import missing_routes

    return list(missing_routes(policy.rules, options.settings))


def _names_that_nobody_has(policy: "CompiledPolicy", options: Options) -> list[Problem]:
    """Warnings that only the configuration shows."""
    if options.settings is None:
        return []
    from relay.config.proof_names import unknown_names

    return list(unknown_names(policy, options.settings))


def _scan(options: Options) -> "Callable[[bytes, str], ScanReport]":
    """The scan as it is tuned where there is a configuration, else as it is shipped."""
    from relay.app.scanning import tuning
    from relay.extract.engine import ScanEngine, load_judge
    from relay.extract.extractor import Extractor

    own = tuning(options.settings) if options.settings else None
    return ScanEngine(load_judge(_no_digest, tuning=own), extractor=Extractor()).scan


def _ip_address(text: str) -> None:
    """Raise unless it is one: a condition over networks would quietly not hold."""
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        hint = "write the client's address, such as 10.20.1.7"
        raise ProblemsError(Problem(where=f"--network {text}", what="is not an IP address", hint=hint)) from None


def _facts(
    content: bytes, sender: "Address | None", recipients: "list[Address]", given: dict[str, Any], options: Options
) -> "MessageFacts":
    from relay.core.address import ReversePath
    from relay.core.envelope import ClientSession, Envelope, MessageFacts, Recipient

    report = _scan(options)(content, given["client"])
    return MessageFacts(
        session=ClientSession(**{key: given[key] for key in ("client", "tenant", "listener", "network", "identity")}),
        envelope=Envelope(
            reverse_path=ReversePath(sender),
            recipients=tuple(Recipient(address=recipient) for recipient in recipients),
        ),
        subject=report.subject,
        headers=report.headers,
        size=len(content),
        verdict=report.verdict,
        attachments=report.attachments,
        stream=given["stream"],
        received_at=time.time() if given["received"] is None else given["received"],
    )


# --- words ------------------------------------------------------------


def _print_json(value: Any) -> None:
    from relay.cli.answer import encoded

    click.echo(encoded(value, indent=True))


def _problem(one: Problem) -> dict[str, str]:
    return {"where": one.where, "what": one.what, "hint": one.hint}


def _decision(decision: "PolicyDecision") -> dict[str, Any]:
    treatment = decision.treatment
    return {
        "recipient": str(decision.recipient),
        "rule": treatment.rule,
        "action": treatment.action.value,
        "methods": [method.value for method in treatment.methods],
        "tls": treatment.tls.word,
        "floor": treatment.floor.word,
        "floors": list(treatment.floors),
        "overridden": list(treatment.overridden),
        "override_reason": treatment.override_reason,
        "within": treatment.within,
        "otherwise": treatment.otherwise.value,
        "reason": treatment.reason,
        "policy_version": treatment.policy_version,
        "error": decision.error,
    }


def _explanation(one: "Explanation", facts: "MessageFacts") -> dict[str, Any]:
    return {
        **_decision(one.decision),
        "phi": facts.verdict.phi.word,
        "steps": [
            {
                "step": step,
                "holds": holds,
                "conditions": [{"path": t.path, "value": t.value, "detail": t.detail} for t in traces],
            }
            for step, holds, traces in one.steps
        ],
    }


def _tree(one: "Explanation", facts: "MessageFacts") -> "Tree":
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree("", hide_root=True)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(facts.verdict.counts().items()))
    tree.add(Text(f"scan: phi {facts.verdict.phi.word}{f' ({found})' if found else ''}"))
    for step, holds, traces in one.steps:
        branch = tree.add(Text(f"{step}: {'holds' if holds else 'no'}", style="green" if holds else "dim"))
        branches = {"": branch}
        for trace in traces:
            parent = max((path for path in branches if trace.path.startswith(path)), key=len)
            mark = "yes" if trace.value else "no"
            text = Text(f"{trace.path}: {mark}", style="" if trace.value else "dim")
            text.append(f"  {trace.detail}", style="dim")
            branches[trace.path] = branches[parent].add(text)
    return tree


def _headline(decision: "PolicyDecision") -> str:
    treatment = decision.treatment
    if decision.error:
        return f"held, the policy could not be evaluated ({decision.error})"
    by = f"by rule {treatment.rule}"
    if treatment.action.value != "deliver":
        return f"{treatment.action.value} {by}: {treatment.reason} (floor {treatment.floor.word})"
    ways = ", ".join(method.value for method in treatment.methods)
    aside = (
        f"; set aside: {', '.join(treatment.overridden)} ({treatment.override_reason})" if treatment.overridden else ""
    )
    return f"deliver by {ways} {by}; floor {treatment.floor.word}{aside}"


def _no_digest(text: str) -> str:
    """Findings of a look from outside are compared with none that is stored."""
    del text
    return ""
