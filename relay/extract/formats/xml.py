"""XML without entities, and the clinical documents in it: C-CDA and FHIR."""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from relay.extract.budget import Extracted, UnreadableError
from relay.extract.formats.hl7 import us_date

_WHITE: Final = re.compile(r"\s+")


def read_clinical_xml(data: bytes, kind: str) -> Extracted:
    """A C-CDA document or FHIR resource in XML: the patient's fields labelled, then all text and displayed names.

    Raises:
        UnreadableError: ``malformed``, also for entities and external references, which no clinical document needs.
    """
    root = parse_xml(data)
    lines: list[str] = []
    patient = False
    for element in root.iter():
        name = local(element)
        if name in {"patientRole", "Patient", "patient"}:
            lines += _patient_lines(element)
            patient = patient or bool(lines)
        lines += [
            f"{name}: {element.attrib[key]}" for key in ("displayName", "value", "extension") if key in element.attrib
        ]
        for text in (element.text, element.tail):
            if text and text.strip():
                lines.append(_WHITE.sub(" ", text.strip()))
    name = "fhir" if kind == "fhir-xml" else kind
    return Extracted(type=name, structure=name, patient=patient, text="\n".join(lines))


def _patient_lines(role: Element) -> Iterator[str]:
    names: dict[str, str] = {}
    for element in role.iter():
        value = (element.attrib.get("value") or element.text or "").strip()
        name = local(element)
        if name in {"given", "family"} and value:
            names.setdefault(name, value)
        elif name in {"birthTime", "birthDate"} and value:
            yield f"DOB: {us_date(value)}"
        elif name == "id" and element.attrib.get("extension"):
            yield f"MRN: {element.attrib['extension']}"
    if names:
        yield f"Patient name: {names.get('given', '')} {names.get('family', '')}".strip()


def parse_xml(data: bytes) -> Element:
    """Parse XML without entities or external references.

    Raises:
        UnreadableError: ``malformed``.
    """
    try:
        root: Element = fromstring(data)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise UnreadableError("malformed") from error
    return root


def labelled(root: Element) -> Iterator[str]:
    """All text and values, each behind the name of its element."""
    for element in root.iter():
        label = local(element)
        values = [element.text or "", *element.attrib.values()]
        yield from (f"{label}: {value.strip()}" for value in values if value.strip())
        if element.tail and element.tail.strip():
            yield element.tail.strip()


def local(element: Element) -> str:
    """The element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]
