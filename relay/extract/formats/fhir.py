"""FHIR resources in JSON: one, a Bundle, or a line each."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

from relay.extract.budget import Extracted, UnreadableError
from relay.extract.formats.hl7 import us_date
from relay.mail.charset import decode
from relay.mail.transfer import decode_transfer

_MAX_DEPTH: Final = 40
_SUBJECTS: Final = frozenset({"subject", "patient", "beneficiary", "individual"})
_LABELS: Final = {
    "birthDate": "DOB", "birthTime": "DOB", "family": "Patient name", "given": "Patient given name", "name": "Name",
}  # fmt: skip
_IDENTITY: Final = frozenset({"birthDate", "family", "given", "identifier", "birthTime"})


def read_fhir(data: bytes) -> Extracted:
    """Every string of the resources with the name of its element before it.

    Raises:
        UnreadableError: ``malformed`` when it is no JSON, ``depth`` when nested too deep.
    """
    text = decode(data, "")
    try:
        roots = [orjson.loads(text)]
    except orjson.JSONDecodeError:
        roots = _lines(text)
    lines: list[str] = []
    patient = False
    for root in roots:
        patient = _names_patient(root) or patient
        lines += _flatten(root, "", 0)
    files = [file for root in roots for file in _files(root)]
    lines += [decode(data, "") for data, is_text in files if is_text]
    faults = () if all(is_text for _, is_text in files) else ("format",)
    return Extracted(type="fhir", structure="fhir", patient=patient, text="\n".join(lines), faults=faults)


def _files(node: Any) -> Iterator[tuple[bytes, bool]]:
    """(content, whether it is text) of attachments and binaries inside."""
    if isinstance(node, list):
        for item in node:
            yield from _files(item)
    elif isinstance(node, dict):
        kind, data = node.get("contentType"), node.get("data")
        if isinstance(kind, str) and isinstance(data, str) and data:
            yield decode_transfer(data.encode("ascii", "replace"), "base64")[0], kind.lower().startswith("text/")
        for item in node.values():
            yield from _files(item)


def _lines(text: str) -> list[Any]:
    try:
        return [orjson.loads(line) for line in text.splitlines() if line.strip()]
    except orjson.JSONDecodeError as error:
        raise UnreadableError("malformed") from error


def _names_patient(node: Any, depth: int = 0) -> bool:
    if depth > _MAX_DEPTH:
        raise UnreadableError("depth")
    if isinstance(node, list):
        return any(_names_patient(item, depth + 1) for item in node)
    if not isinstance(node, dict):
        return False
    if node.get("resourceType") in {"Patient", "RelatedPerson"} and any(node.get(key) for key in _IDENTITY | {"name"}):
        return True
    if any(
        isinstance(node.get(key), dict) and node[key].keys() & {"reference", "identifier", "display"}
        for key in _SUBJECTS
    ):
        return True
    return any(_names_patient(item, depth + 1) for item in node.values())


def _flatten(node: Any, label: str, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        raise UnreadableError("depth")
    if isinstance(node, dict):
        if isinstance(node.get("family"), str):
            given = node.get("given")
            yield f"Patient name: {' '.join(map(str, given)) if isinstance(given, list) else ''} {node['family']}"
        for key, value in node.items():
            yield from _flatten(value, key, depth + 1)
    elif isinstance(node, list):
        for item in node:
            yield from _flatten(item, label, depth + 1)
    elif isinstance(node, str | int | float):
        yield f"{_LABELS.get(label, label)}: {_written(label, str(node))}"


def _written(label: str, value: str) -> str:
    return us_date(value) if label in {"birthDate", "birthTime"} else value
