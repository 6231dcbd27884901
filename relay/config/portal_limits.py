"""Limits of the portal: how often somebody may do what, and how much a page, a copy or an answer may hold."""

from relay.config.types import Integer, Section, Size, setting

_MOST = 1_000_000


def _often(default: int, description: str) -> int:
    """How often something may happen; the window is the limit's own and stands in its description."""
    number: int = setting(default, description, "times", ge=1, le=_MOST)
    return number


class PortalLimitSettings(Section):
    """How often, and how much. The names of the first part are those of docs/portal-security.md."""

    codes_message: Integer = _often(6, "Codes mailed for one message, an hour.")
    codes_mailbox: Integer = _often(12, "Codes mailed to one mailbox by links, an hour.")
    codes_sign_in: Integer = _often(5, "Codes for one address typed at the sign-in page, an hour.")
    codes_sign_in_day: Integer = _often(20, "The same, a day.")
    codes_recovery: Integer = _often(3, "The same, of codes asked for in order to recover, a day.")
    codes_network: Integer = _often(60, "Codes asked for from one network (IPv4 /24, IPv6 /48), an hour.")
    codes_all: Integer = _often(20_000, "Codes of everybody, an hour.")
    answers_mailbox: Integer = _often(10, "Answers to a second factor, of one mailbox, in 15 minutes.")
    answers_day: Integer = _often(40, "The same, a day.")
    answers_network: Integer = _often(120, "Answers to codes and factors from one network, in 15 minutes.")
    changes: Integer = _often(20, "Changes of how one mailbox signs in, an hour.")
    recoveries: Integer = _often(3, "Recoveries of one mailbox, a day.")
    recalls_network: Integer = _often(20, '"This is not for me" and approvals from one network, an hour.')
    searches: Integer = _often(60, "Searches for a sender, of one mailbox, in 15 minutes.")
    sender_acts: Integer = _often(60, "What one sender does about what they sent, an hour.")
    sender_notices: Integer = _often(3, "Notices of one message that its sender has sent again, a day.")
    shared_tries: Integer = _often(20, "Wrong answers to a secret of the clinic's before a new one must be set.")
    written: Integer = _often(30, "Replies and forwards of one mailbox, an hour.")
    written_day: Integer = _often(200, "The same, a day.")

    answer_text: Integer = setting(50_000, "Characters of an answer.", "characters", ge=100, le=250_000)
    answer_files: Integer = setting(10, "Files of an answer.", "files", ge=0, le=100)
    answer_size: Size = setting(
        "20000000B", "All files of an answer; max_upload must have room for it.", "size", ge=0, le=1 << 30
    )
    forward_to: Integer = setting(5, "Addresses that a message may be forwarded to at once.", "addresses", ge=1, le=50)
    forward_size: Size = setting("40MiB", "Largest message that may be forwarded.", "size", ge=1024, le=1 << 30)

    view_text: Size = setting("1MiB", "One stretch of text or HTML that is shown.", "size", ge=4096, le=64 << 20)
    view_pictures: Size = setting("12MiB", "All pictures that are shown inside a message.", "size", ge=0, le=256 << 20)
    view_parts: Integer = setting(500, "Parts of a message that are told apart.", "parts", ge=10, le=10_000)

    pdf_text: Integer = setting(
        40_000, "Characters of a PDF copy: 2,000 are a page.", "characters", ge=1_000, le=1_000_000
    )
    pdf_pictures: Integer = setting(12, "Pictures of a PDF copy.", "pictures", ge=0, le=200)
    pdf_picture_size: Size = setting("6MiB", "Largest picture of a PDF copy.", "size", ge=1024, le=64 << 20)
