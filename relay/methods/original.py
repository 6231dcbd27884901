"""What every method begins with: the original, and the header edits that its treatment asks for."""

import re
from typing import Final

from relay.core.decision import Treatment
from relay.mail import edit

SECRET_HEADER: Final = "Postern-Secret"  # noqa: S105 - a header's name
"""A header in which a sender's system gives the secret that opens a copy in the portal; it never leaves in a copy."""
_SECRET: Final = re.compile(rb"^%s[ \t]*:" % SECRET_HEADER.encode("ascii"), re.IGNORECASE | re.MULTILINE)
MASKED: Final = "Protected message"
"""The subject in place of one that tells of a patient."""


def edited(content: bytes, treatment: Treatment, *, travels: bool = True) -> bytes:
    """The message with the treatment's edits.

    Args:
        content: the original.
        treatment: says which.
        travels: it goes out, with its header open to read; not so what the portal keeps, whose subject stays.

    Raises:
        ValueError: a header that the policy adds cannot be written.
    """
    if treatment.strip_subject_tags:
        content = edit.strip_subject_tags(content, treatment.strip_subject_tags)
    if treatment.mask_subject and travels:
        content = edit.mask_subject(content, MASKED)
    if treatment.headers:
        content = edit.apply(content, treatment.headers)
    if _SECRET.search(content, 0, edit.header_end(content)):
        content = edit.remove(content, SECRET_HEADER)
    return content
