"""What the reader of a failure notice can do, by enhanced status (RFC 3463): for people who treat patients."""

from typing import Final

from relay.core.reply import EnhancedStatus

_ADDRESS: Final = "Check the address for typing errors, and send the message again to the right one."
_ASK: Final = "Reach the recipient another way, and ask for an address that works."
_LATER: Final = "Send the message again later, or reach the recipient another way."
_PROTECTION: Final = (
    "The message was not sent, because it could not be sent safely enough. Do not send it by other email; use your "
    "secure portal, fax or telephone, or ask your mail administrators."
)
_BY_DETAIL: Final = {
    (1, 0): _ADDRESS,
    (1, 1): _ADDRESS,
    (1, 2): _ADDRESS,
    (1, 3): _ADDRESS,
    (1, 6): _ASK,
    (1, 10): _ADDRESS,
    (2, 1): _ASK,
    (2, 2): "The recipient's mailbox is full. " + _LATER,
    (2, 3): "Make the message smaller: send fewer or smaller attachments.",
    (3, 4): "Make the message smaller: send fewer or smaller attachments.",
    (4, 4): _ADDRESS,
    (4, 6): "Ask your mail administrators: the recipient's mail servers are set up wrongly, or ours are.",
    (4, 7): _LATER,
    (6, 7): "Ask the recipient for an address that has only the letters of English.",
    (7, 5): _PROTECTION,
    (7, 10): _PROTECTION,
    (7, 30): _PROTECTION,
}
_BY_SUBJECT: Final = {
    1: _ADDRESS,
    2: _ASK,
    4: _LATER,
    6: "Send the message again in a simpler form, as plain text without attachments.",
    7: "The recipient's mail server does not take this message. " + _ASK,
}


def advice(status: EnhancedStatus) -> str:
    """One or two plain sentences, for every status."""
    general = "Reach the recipient another way, and tell your mail administrators."
    return _BY_DETAIL.get((status.subject, status.detail)) or _BY_SUBJECT.get(status.subject, general)
