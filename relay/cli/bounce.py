"""``postern bounce``: what a server's answer, or a message that came back, means, and which rule says so."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import orjson

from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.delivery.bounce import Verdict
    from relay.delivery.classify import Classifier


@click.group(name="bounce", help="Explain servers' answers and returned mail.")
def command() -> None:
    """Hold the verbs together."""


_rules_option = click.option(
    "--rules",
    "rules",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A file of bounce rules to ask before Postern's own; may be repeated.",
)
_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="POSTERN_CONFIG",
    show_envvar=True,
    help="The configuration, whose rules are asked too.",
)


@command.command()
@_rules_option
@_config_option
@click.option("--host", default="", help="The host that answered, for rules about a provider.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of text for people.")
@click.option("--jsonl", is_flag=True, help="WORDS are files (- or none: stdin) of JSON rows with `smtp_response`.")
@click.argument("words", nargs=-1)
def explain(
    *, rules: tuple[Path, ...], config: Path | None, host: str, as_json: bool, jsonl: bool, words: tuple[str, ...]
) -> None:
    """Say what an answer means: its class, family, what follows, and the rule that decided.

    WORDS are the answer, such as "550 5.1.1 User unknown"; without them, or with -, each line of standard input is one.
    """
    classifier = _classifier(rules, config)
    if jsonl:
        _write(_bulk(classifier, words or ("-",), host))
        return
    answers = [" ".join(words)] if words not in {(), ("-",)} else [line.rstrip("\r\n") for line in sys.stdin]
    for answer in answers:
        verdict = classifier.classify(answer, host=host)
        if as_json:
            _write([{**row_of(verdict), "permanent": verdict.permanent, "pattern": verdict.pattern}])
        else:
            _tell(answer, verdict)


def row_of(verdict: "Verdict") -> dict[str, Any]:
    """A verdict as JSON."""
    return {
        "class": verdict.klass.value,
        "family": verdict.family.value,
        "action": verdict.action.value,
        "rule": verdict.rule,
    }


def _classifier(rules: tuple[Path, ...], config: Path | None) -> "Classifier":
    from relay.reputation.load import load_classifier

    extra = list(rules)
    if config is not None:
        from relay.config.load import load

        extra += load(config).bounces.rules
    return load_classifier(extra)


def _bulk(classifier: "Classifier", names: tuple[str, ...], host: str) -> Iterator[dict[str, Any]]:
    for name in names:
        with _open(name) as stream:
            for number, line in enumerate(stream, 1):
                if line.strip():
                    identity, answer = _parse_row(line, f"{name}:{number}", number)
                    yield {"id": identity, **row_of(classifier.classify(answer, host=host))}


def _open(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise ProblemsError(Problem(where=name, what=error.strerror or "cannot be read")) from error


def _parse_row(line: bytes, where: str, number: int) -> tuple[Any, str]:
    try:
        row = orjson.loads(line)
        return row.get("id", number), str(row["smtp_response"])
    except (orjson.JSONDecodeError, KeyError, AttributeError) as error:
        what = "not a JSON object with a field `smtp_response`"
        raise ProblemsError(Problem(where=where, what=what, hint="one object a line")) from error


def _write(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
    sys.stdout.buffer.flush()


def _tell(answer: str, verdict: "Verdict") -> None:
    from relay.delivery.bounce import MEANINGS

    click.echo(f"answer:  {answer}")
    click.echo(f"class:   {verdict.klass.value}    ({MEANINGS[verdict.klass].words})")
    click.echo(f"family:  {verdict.family.value}")
    click.echo(f"lasting: {'yes, it will not change its mind' if verdict.permanent else 'no, it may be tried again'}")
    click.echo(f"action:  {verdict.action.value}")
    click.echo(f"rule:    {verdict.rule}")
    read = [str(verdict.code) if verdict.code else "no code", str(verdict.status or "no enhanced status")]
    click.echo(f"because: {', '.join(read)}" + (f"; found: {verdict.pattern}" if verdict.pattern else ""))
