"""DICOM: the patient's module of the header; pixels are not looked at."""

import io
import logging
import warnings
from typing import Final

import pydicom
from pydicom.errors import BytesLengthException, InvalidDicomError

from relay.extract.budget import Extracted, UnreadableError
from relay.extract.formats.hl7 import us_date

_PATIENT: Final = (
    ("PatientName", "Patient name"), ("PatientID", "MRN"), ("PatientBirthDate", "DOB"), ("OtherPatientIDs", "MRN"),
    ("PatientAddress", "Address"), ("PatientTelephoneNumbers", "Phone"), ("AccessionNumber", "Accession number"),
)  # fmt: skip
_NAMING: Final = frozenset({"PatientName", "PatientID", "PatientBirthDate"})
_TEXTUAL: Final = frozenset({"LO", "SH", "LT", "ST", "UT", "PN", "DA", "CS", "AS", "UC"})


# It repeats the values that it finds odd, in warnings and in its log: a patient's data (law 4).
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def read_dicom(data: bytes) -> Extracted:
    """The patient's fields labelled, then every textual element; of a damaged file what can still be read.

    Raises:
        UnreadableError: ``malformed``.
    """
    try:
        with warnings.catch_warnings(record=True) as damage:
            warnings.simplefilter("always")
            dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
            lines = []
            patient = False
            for keyword, label in _PATIENT:
                value = str(dataset.get(keyword, "") or "").strip()
                if value:
                    patient = patient or keyword in _NAMING
                    lines.append(f"{label}: {_written(keyword, value)}")
            lines += [
                f"{element.name}: {str(element.value).replace('^', ' ')}"
                for element in dataset.iterall()
                if element.VR in _TEXTUAL and element.value
            ]
    except (InvalidDicomError, BytesLengthException, ValueError, KeyError, TypeError, AttributeError, OSError, EOFError,
            NotImplementedError, OverflowError) as error:  # fmt: skip
        raise UnreadableError("malformed") from error
    if not len(dataset):
        raise UnreadableError("malformed")
    faults = ("malformed",) if damage else ()
    return Extracted(type="dicom", structure="dicom", patient=patient, text="\n".join(lines), faults=faults)


def _written(keyword: str, value: str) -> str:
    if keyword == "PatientBirthDate":
        return us_date(value)
    if keyword == "PatientName":
        family, _, given = value.partition("^")
        return f"{given.replace('^', ' ')} {family}".strip()
    return value
