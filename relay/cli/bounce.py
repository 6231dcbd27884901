"""``postern bounce``: what a server's answer, or a message that came back, means, and which rule says so."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click
import orjson

from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.delivery.bounce import Verdict
    from relay.delivery.classify import Classifier
    from relay.reputation.aggregate import AggregateReport, ReportError
    from relay.reputation.judged import Judged
    from relay.reputation.returned import Returned


@click.group(name="bounce", help="Explain servers' answers and returned mail.")
def command() -> None:
    """Hold the verbs together."""


_REMEMBERED: Final = 50_000
"""Answers of a bulk whose verdicts are remembered: the same few come over and over."""
_NOT_READ: Final = {"class": "other", "family": "other", "action": "none", "rule": "not-read"}


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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--jsonl", is_flag=True, help="WORDS are files (- or none: stdin) of JSON rows with `smtp_response`.")
@click.argument("words", nargs=-1)
def explain(
    *, rules: tuple[Path, ...], config: Path | None, host: str, as_json: bool, jsonl: bool, words: tuple[str, ...]
) -> None:
    """Say what an answer means: its class, family, what follows, and the rule that decided.

    WORDS are the answer, such as "550 5.1.1 User unknown"; without them, or with -, each line of standard input is one.
    """
    classifier = classifier_of(rules, config)
    if jsonl:
        bulk = _Bulk(classifier, host)
        _write(bulk.rows(words or ("-",)))
        if bulk.faults:
            what = f"{bulk.faults} rows could not be read, the first is {bulk.first_fault}"
            raise ProblemsError(Problem(where="--jsonl", what=what, hint="they came out with the field `error`"))
        return
    said = [" ".join(words).encode("utf-8", "surrogateescape")] if words not in {(), ("-",)} else sys.stdin.buffer
    for answer in (line.decode("utf-8", "replace").rstrip("\r\n") for line in said):
        verdict = classifier.classify(answer, host=host)
        if as_json:
            _write([{**row_of(verdict), "permanent": verdict.permanent, "pattern": verdict.pattern}])
        else:
            _tell(answer, verdict)


@command.command()
@_rules_option
@_config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a message.")
@click.argument("files", nargs=-1)
def parse(*, rules: tuple[Path, ...], config: Path | None, as_json: bool, files: tuple[str, ...]) -> None:
    """Say what returned messages mean (FILES, folders of them, or - for standard input).

    Reads delivery status notifications, bounces in words of their own, complaints, automatic replies and DMARC
    aggregate reports (these also as bare XML, gzip or zip). Several files give one JSON object each. Nothing is stored.
    """
    from relay.reputation.aggregate import MAX_MESSAGE
    from relay.reputation.judged import judge
    from relay.reputation.returned import Kind, read_returned

    classifier = classifier_of(rules, config)
    found = list(sources(files or ("-",)))
    for name in found:
        with open_source(name) as stream:
            content = stream.read(MAX_MESSAGE + 1)
        returned = read_returned(content)
        judged = judge(returned, classifier)
        report = _report(content) if returned.kind is Kind.OTHER else None
        if report is not None:
            _show_report(name, report, as_json=as_json or len(found) > 1)
        elif as_json or len(found) > 1:
            _write([_message_row(name, returned, judged)])
        else:
            _tell_message(returned, judged)


def _report(content: bytes) -> "AggregateReport | ReportError | None":
    from relay.reputation.aggregate import ReportError, find_report

    try:
        return find_report(content)
    except ReportError as error:
        return error


def _show_report(name: str, report: "AggregateReport | ReportError", *, as_json: bool) -> None:
    from relay.reputation.aggregate import ReportError

    if isinstance(report, ReportError):
        if as_json:
            _write([{"id": name, "kind": "dmarc", "fault": str(report)}])
        else:
            click.echo(f"kind:    dmarc\nrefused: {report}")
        return
    if as_json:
        whole = {**asdict(report), "messages": report.messages, "passed": report.passed}
        _write([{"id": name, "kind": "dmarc", "form": report.schema, "report": whole}])
        return
    click.echo(f"kind:    dmarc ({report.schema}), {report.reporter}, id {report.report_id}")
    policy = ", ".join(f"{key}={value}" for key, value in sorted(report.policy.items()))
    click.echo(f"about:   {report.domain} ({policy})")
    click.echo(f"result:  {report.passed} of {report.messages} messages passed")
    for one in sorted(report.records, key=lambda record: (record.passed, -record.count))[:50]:
        click.echo(
            f"{one.count:>8} from {one.source}: {'pass' if one.passed else 'FAIL'} "
            f"(DKIM {one.dkim or '-'}, SPF {one.spf or '-'}), {one.disposition or 'no disposition'}"
        )


def sources(names: tuple[str, ...]) -> Iterator[str]:
    """Files as named, and all those in the folders named."""
    for name in names:
        path = Path(name)
        if path.is_dir():
            yield from (str(item) for item in sorted(path.rglob("*")) if item.is_file())
        else:
            yield name


def _message_row(name: str, returned: "Returned", judged: "tuple[Judged, ...]") -> dict[str, Any]:
    """A message as JSON: the verdict on its first recipient that has one, and all of them below it."""
    first = next((one.verdict for one in judged if one.verdict is not None), None)
    whole = row_of(first) if first is not None else dict.fromkeys(("class", "family", "action", "rule"), "")
    return {
        "id": name,
        **whole,
        "kind": returned.kind.value,
        "form": returned.form,
        "message_id": returned.message_id,
        "envelope_id": returned.envelope_id,
        "truncated": returned.truncated,
        "recipients": [
            {
                "address": one.recipient.address,
                "outcome": one.recipient.action,
                "status": one.recipient.status,
                **(row_of(one.verdict) if one.verdict is not None else {}),
            }
            for one in judged
        ],
    }


def _tell_message(returned: "Returned", judged: "tuple[Judged, ...]") -> None:
    click.echo(f"kind:    {returned.kind.value}" + (f" ({returned.form})" if returned.form else ""))
    if returned.message_id:
        click.echo(f"about:   {returned.message_id}")
    for one in judged:
        click.echo(f"\n{one.recipient.address or '(nobody named)'}: {one.recipient.action}")
        if one.verdict is not None:
            _tell(one.recipient.reason, one.verdict)


def row_of(verdict: "Verdict") -> dict[str, Any]:
    """A verdict as JSON."""
    return {
        "class": verdict.klass.value,
        "family": verdict.family.value,
        "action": verdict.action.value,
        "rule": verdict.rule,
    }


def classifier_of(rules: tuple[Path, ...], config: Path | None) -> "Classifier":
    """The classifier with these rules, and those that a configuration names.

    Raises:
        ProblemsError: every fault in them.
    """
    from relay.reputation.load import load_classifier

    extra = list(rules)
    if config is not None:
        from relay.config.load import load

        extra += load(config).bounces.rules
    return load_classifier(extra)


class _Bulk:
    """Classifies rows, each answer that repeats once, and remembers how many rows could not be read."""

    def __init__(self, classifier: "Classifier", host: str) -> None:
        self._classifier = classifier
        self._host = host
        self._known: dict[str, dict[str, Any]] = {}
        self.faults = 0
        self.first_fault = ""

    def rows(self, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """One row out for each row in, in order; one that cannot be read comes out with ``error``."""
        for name in names:
            with open_source(name) as stream:
                for number, line in enumerate(stream, 1):
                    if line.strip():
                        yield self._row(line, f"{name}:{number}", number)

    def _row(self, line: bytes, where: str, number: int) -> dict[str, Any]:
        identity, answer, fault = _parse_row(line, number)
        if fault:
            self.faults += 1
            self.first_fault = self.first_fault or f"{where}: {fault}"
            return {"id": identity, **_NOT_READ, "error": fault}
        known = self._known.get(answer)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[answer] = row_of(self._classifier.classify(answer, host=self._host))
        return {"id": identity, **known}


def open_source(name: str) -> BinaryIO:
    """A file, or standard input for ``-``.

    Raises:
        ProblemsError: it cannot be read.
    """
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise ProblemsError(Problem(where=name, what=error.strerror or "cannot be read")) from error


def _parse_row(line: bytes, number: int) -> tuple[Any, str, str]:
    """The row's id (its number in the file where it has none), the answer, and what is wrong with it."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return number, "", "not JSON"
    if not isinstance(row, dict):
        return number, "", "not a JSON object"
    identity, answer = row.get("id", number), row.get("smtp_response")
    if isinstance(answer, list) and all(isinstance(one, str) for one in answer):
        answer = "\n".join(answer)
    if not isinstance(answer, str):
        return identity, "", "no text in the field `smtp_response`"
    return identity, answer, ""


def _write(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
    sys.stdout.buffer.flush()


def _tell(answer: str, verdict: "Verdict") -> None:
    from relay.delivery.bounce import MEANINGS
    from relay.delivery.classify import found_words

    if answer:
        click.echo(f"answer:  {answer}")
    click.echo(f"class:   {verdict.klass.value}    ({MEANINGS[verdict.klass].words})")
    click.echo(f"family:  {verdict.family.value}")
    click.echo(f"lasting: {'yes, it will not change its mind' if verdict.permanent else 'no, it may be tried again'}")
    click.echo(f"action:  {verdict.action.value}")
    click.echo(f"rule:    {verdict.rule}")
    read = [str(verdict.code) if verdict.code else "no code", str(verdict.status or "no enhanced status")]
    found = found_words(answer, verdict.pattern) if verdict.pattern else ""
    click.echo(f"because: {', '.join(read)}" + (f'; found: "{found}"' if found else ""))
