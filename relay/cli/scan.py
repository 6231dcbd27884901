"""``postern scan``: what the scan makes of messages or text, with the text masked."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import orjson

from relay.cli import tables
from relay.cli.answer import encoded
from relay.core.errors import Problem, ProblemsError

if TYPE_CHECKING:
    from relay.core.phi import Finding, PhiVerdict
    from relay.extract.engine import Reading, ScanEngine
    from relay.scan.tuning import Tuning

_CONTEXT = 24


@dataclass(frozen=True, slots=True)
class _Source:
    """One thing to scan, and the id it is reported under."""

    id: str
    content: bytes


@click.command
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a source.")
@click.option(
    "--eml", "form", flag_value="eml", help="Sources are messages or folders of them: one JSON a message comes out."
)
@click.option("--text", "form", flag_value="text", help="Sources are bare text.")
@click.option("--jsonl", is_flag=True, help="Sources are JSON rows with a field `text`: one JSON a row comes out.")
@click.option("--tuning", type=click.Path(), help="The operator's own patterns, terms, exclusions and weights (YAML).")
@click.option("--client", default="", help="Whose mail it is: what the tuning says of this client holds besides.")
@click.option("--check", is_flag=True, help="Check the file that --tuning names, try the tests in it, and end.")
@click.argument("files", nargs=-1)
def command(
    *,
    as_json: bool,
    form: str | None,
    jsonl: bool,
    tuning: str | None,
    client: str,
    check: bool,
    files: tuple[str, ...],
) -> None:
    """Scan FILES (`-` or none: standard input) for patients' data.

    Sources are messages unless told otherwise. Prints the verdict and, for each finding, its kind, part, span and
    weight with the text masked; several sources are printed as one JSON object a line. Nothing is stored.
    """
    from relay.extract.engine import ScanEngine, load_judge
    from relay.extract.extractor import Extractor
    from relay.extract.formats.ocr import PictureReader

    own = _tuning(tuning)
    if client and (own is None or client not in own.clients):
        click.echo(f"nothing is tuned for the client {client}: its mail is judged like all other", err=True)
    judge = load_judge(lambda plain: plain[:16], tuning=own)
    if check:
        _check(ScanEngine(judge), own)
        return
    pictures = PictureReader() if PictureReader.is_installed() else None
    engine = ScanEngine(judge, extractor=Extractor(pictures=pictures))
    names = files or ("-",)
    if jsonl:
        if form:
            raise click.UsageError("--jsonl reads rows: it goes with neither --eml nor --text")
        _scan_rows(engine, names, client)
        return
    sources = list(_sources(names))
    if not sources:
        raise ProblemsError(Problem(where=", ".join(names), what="holds no file", hint="name messages, or - for stdin"))
    rows = as_json or form == "eml" or len(sources) > 1
    for name in _progress(sources, shown=len(sources) > 1):
        source = _load(name)
        reading, verdict = _judged(engine, source.content, client, is_text=form == "text")
        if rows:
            sys.stdout.buffer.write(encoded(_row(source.id, verdict)) + b"\n")
        else:
            _explain(verdict, reading)


def _judged(engine: "ScanEngine", content: bytes, client: str, *, is_text: bool) -> "tuple[Reading, PhiVerdict]":
    """What was read and the verdict; a fault of ours is the finding ``unreadable``, as in a running relay (law 3)."""
    from relay.extract.engine import bare_reading, unreadable_verdict

    try:
        reading = bare_reading(content) if is_text else engine.read(content)
        return reading, engine.report(reading, client=client).verdict
    except Exception:  # noqa: BLE001 - as said
        return bare_reading(b""), unreadable_verdict("crash")


def _check(engine: "ScanEngine", tuning: "Tuning | None") -> None:
    if tuning is None:
        raise click.UsageError("--check needs --tuning FILE")
    engine.prove(tuning)
    click.echo(f"in order; {len(tuning.tests)} tests hold")


def _tuning(name: str | None) -> "Tuning | None":
    from relay.scan.tuning import parse_tuning

    return parse_tuning(_load(name).content, name) if name else None


def _sources(names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        path = Path(name)
        if name == "-" or path.is_file():
            yield name
        elif path.is_dir():
            yield from (str(item) for item in sorted(path.rglob("*")) if item.is_file())
        else:
            raise ProblemsError(
                Problem(where=name, what="no such file or folder", hint="name messages, or - for stdin")
            )


def _load(name: str) -> _Source:
    if name == "-":
        return _Source("-", sys.stdin.buffer.read())
    try:
        return _Source(name, Path(name).read_bytes())
    except OSError as error:
        raise ProblemsError(Problem(where=name, what=error.strerror or "cannot be read")) from error


def _progress(names: list[str], *, shown: bool) -> Iterator[str]:
    if not (shown and sys.stderr.isatty()):
        yield from names
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(names, description="scanning", console=Console(stderr=True))


def _scan_rows(engine: "ScanEngine", names: tuple[str, ...], client: str) -> None:
    for name in names:
        with _open(name) as stream:
            for number, line in enumerate(_ticking(stream), 1):
                if line.strip():
                    identity, text = _parse_row(line, f"{name}:{number}", number)
                    row = _row(identity, engine.scan_text(text, client))
                    sys.stdout.buffer.write(encoded(row) + b"\n")


def _open(name: str) -> BinaryIO:
    if name == "-":
        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise ProblemsError(Problem(where=name, what=error.strerror or "cannot be read")) from error


def _ticking(stream: BinaryIO) -> Iterator[bytes]:
    if not (sys.stderr.isatty() and stream.seekable()):
        yield from stream
        return
    from rich.console import Console
    from rich.progress import wrap_file

    total = stream.seek(0, 2)
    stream.seek(0)
    with wrap_file(stream, total, description="scanning", console=Console(stderr=True)) as wrapped:
        yield from wrapped


def _parse_row(line: bytes, where: str, number: int) -> tuple[Any, str]:
    try:
        row = orjson.loads(line)
        identity, text = row.get("id", number), row["text"]
    except (orjson.JSONDecodeError, KeyError, AttributeError) as error:
        raise ProblemsError(
            Problem(where=where, what="not a JSON object with a field `text`", hint="one object a line")
        ) from error
    if not isinstance(text, str):
        raise ProblemsError(Problem(where=where, what="the field `text` is no text", hint="write it in quotes"))
    return identity, text


def _row(identity: Any, verdict: "PhiVerdict") -> dict[str, Any]:
    return {
        "id": identity,
        "verdict": verdict.phi.word,
        "subject": verdict.subject_phi.word,
        "findings": [
            {
                "kind": finding.kind,
                "group": finding.group.value,
                "part": finding.part,
                "start": finding.start,
                "end": finding.end,
                "weight": finding.weight,
                "sensitive": finding.sensitive,
                "more": finding.more,
            }
            for finding in verdict.findings
        ],
        "truncated": verdict.truncated,
    }


def mask(text: str) -> str:
    """The shape of a text without the text: letters and digits stand as ``x`` and ``9``."""
    return "".join(
        "9" if char.isdigit() else "x" if char.isalpha() else " " if char.isspace() else char for char in text
    )


def _explain(verdict: "PhiVerdict", reading: "Reading") -> None:
    texts = {passage.part: passage.text for passage in reading.passages}
    click.echo(f"verdict: {verdict.phi.word}    subject: {verdict.subject_phi.word}    ({verdict.engine})")
    if not verdict.findings:
        return
    table = tables.table("group", "kind", "part", "span", "weight", "masked")
    for finding in verdict.findings:
        table.add_row(
            finding.group.value,
            f"{finding.kind} ({finding.sensitive})" if finding.sensitive else finding.kind,
            finding.part,
            f"{finding.start}-{finding.end}",
            f"{finding.weight:.2f}",
            _masked(finding, texts),
        )
    tables.show(table)
    if verdict.truncated:
        click.echo("more findings than are listed")


def _masked(finding: "Finding", texts: dict[str, str]) -> str:
    return mask(texts.get(finding.part, "")[finding.start : min(finding.end, finding.start + _CONTEXT * 2)])
