"""Formats that are text: read on the spot, without a parser that strangers could upset."""

from relay.extract.budget import Extracted, UnreadableError
from relay.extract.formats.fhir import read_fhir
from relay.extract.formats.hl7 import read_hl7v2, read_x12
from relay.mail.card import card_text, is_card
from relay.mail.charset import decode
from relay.mail.text import normalise, text_of


def read_text_format(data: bytes, kind: str, content_type: str, charset: str) -> Extracted:
    """Text, HTML, HL7 v2, X12 or FHIR in JSON; one of the last three that is broken is read as text.

    Never raises.
    """
    try:
        if kind == "hl7v2":
            return read_hl7v2(data)
        if kind == "x12":
            return read_x12(data)
        if kind == "fhir":
            return read_fhir(data)
    except (UnreadableError, RecursionError):
        return Extracted(type=kind, text=text_of(data, "text/plain", charset), structure=kind, faults=("malformed",))
    return Extracted(type=kind, text=shown(data, kind, content_type, charset))


def shown(data: bytes, kind: str, content_type: str, charset: str) -> str:
    """The text of text or HTML. HTML that is called plain text is shown as either: it counts as both."""
    if kind != "html":
        return normalise(card_text(decode(data, charset))) if is_card(data) else text_of(data, content_type, charset)
    text = text_of(data, "text/html", charset)
    return "\n".join((text, text_of(data, content_type, charset))) if content_type == "text/plain" else text
