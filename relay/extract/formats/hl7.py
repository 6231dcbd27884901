"""HL7 version 2 messages (pipes and hats), batches of them, and X12 health care transactions, recognised and read."""

import re
from typing import Final

from relay.extract.budget import Extracted
from relay.mail.charset import decode

_LINES: Final = re.compile(r"[\r\n\x0b\x1c]+")
_ESCAPES: Final = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", "X0D": "\n", "X0A": "\n", ".br": "\n"}
_ESCAPE: Final = re.compile(r"\\([A-Za-z.0-9]{1,512})\\")
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")
_DATE: Final = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")
_PID: Final = {3: "MRN", 5: "Patient name", 7: "DOB", 11: "Address", 13: "Phone", 18: "Account number", 19: "SSN"}
_PATIENT_FIELDS: Final = (3, 5, 7, 19)
_X12_PATIENT: Final = frozenset({"IL", "QC", "74"})  # insured, patient, corrected insured (X12 NM101)


def read_hl7v2(data: bytes) -> Extracted:
    """Labelled patient fields first, then every segment with its separators as blanks."""
    text = decode(data, "")
    segments = [line for line in _LINES.split(text) if line]
    head = next((line for line in segments if line.startswith("MSH")), "MSH|^~\\&")
    field, component = head[3:4] or "|", head[4:5] or "^"
    lines: list[str] = []
    patient = False
    for segment in segments:
        fields = segment.split(field)
        if fields[0] == "PID":
            found = _patient_lines(fields, component)
            patient = patient or any(
                fields[place].split(component)[0].strip() for place in _PATIENT_FIELDS if place < len(fields)
            )
            lines += found
    plain = (_unescape(segment.replace(component, " ").replace(field, " | ")) for segment in segments)
    return Extracted(type="hl7v2", structure="hl7v2", patient=patient, text="\n".join([*lines, *plain]))


def _patient_lines(fields: list[str], component: str) -> list[str]:
    lines = []
    for place, label in _PID.items():
        value = fields[place].split("~")[0] if place < len(fields) else ""
        parts = [part for part in value.split(component) if part]
        if not parts:
            continue
        if place == 5:
            parts = [*parts[1:3], parts[0]]
        if place in {3, 18}:
            parts = parts[:1]
        if place == 7:
            parts = [us_date(parts[0])]
        lines.append(f"{label}: {' '.join(parts)}")
    return lines


def us_date(value: str) -> str:
    """``YYYYMMDD`` or ``YYYY-MM-DD`` and what follows it, as month, day and year."""
    match = _DATE.match(value)
    return f"{match[2]}/{match[3]}/{match[1]}" if match else value


def _unescape(text: str) -> str:
    return _ESCAPE.sub(_escaped, text) if "\\" in text else text


def _escaped(match: re.Match[str]) -> str:
    """HL7 2.5 chapter 2.7: a mark, or octets in hexadecimal."""
    code = match[1]
    if code in _ESCAPES:
        return _ESCAPES[code]
    digits = code[1:]
    is_octets = code[0] in "Xx" and len(digits) % 2 == 0 and _HEX.fullmatch(digits)
    return bytes.fromhex(digits).decode("latin-1") if is_octets else " "


def read_x12(data: bytes) -> Extracted:
    """Names and dates of the insured and the patient first, then every segment."""
    text = decode(data, "").lstrip()
    element = text[3:4] or "*"
    terminator = text[105:106] if len(text) > 105 else "~"
    if terminator.isalnum() or terminator == element:
        terminator = "~"
    segments = [segment.strip() for segment in text.split(terminator) if segment.strip()]
    lines: list[str] = []
    for segment in segments:
        fields = segment.split(element)
        if fields[0] == "NM1" and len(fields) > 4 and fields[1] in _X12_PATIENT and fields[3]:
            lines.append(f"Patient: {' '.join(part for part in (*fields[4:6], fields[3]) if part)}")
            if len(fields) > 9 and fields[9]:
                lines.append(f"Member ID: {fields[9]}")
        elif fields[0] == "DMG" and len(fields) > 2:
            lines.append(f"DOB: {us_date(fields[2])}")
    patient = any(line.startswith("Patient") for line in lines)
    plain = (segment.replace(element, " ") for segment in segments)
    return Extracted(type="x12", structure="x12", patient=patient, text="\n".join([*lines, *plain]))
