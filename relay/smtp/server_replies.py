"""What a server session says by itself, with the codes of RFC 5321, RFC 3463, RFC 4954 and RFC 3207."""

from collections.abc import Sequence
from typing import Final

from relay.core.reply import Reply
from relay.smtp.server_limits import SessionLimits

SENDER_OK: Final = Reply.of(250, "2.1.0", "Sender ok")
RECIPIENT_OK: Final = Reply.of(250, "2.1.5", "Recipient ok")
GO_AHEAD: Final = Reply.of(354, "", "End data with <CR><LF>.<CR><LF>")
RESET: Final = Reply.of(250, "2.0.0", "Forgotten")
NOTHING: Final = Reply.of(250, "2.0.0", "Ok")
BYE: Final = Reply.of(221, "2.0.0", "Bye")
HELP: Final = Reply.of(214, "2.0.0", "RFC 5321: EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH")
CANNOT_VERIFY: Final = Reply.of(252, "2.0.0", "Cannot verify; send the message and see")
NO_LISTS: Final = Reply.of(502, "5.5.1", "There are no lists to expand")
UNKNOWN: Final = Reply.of(500, "5.5.1", "Command not recognised")
UNOFFERED: Final = Reply.of(502, "5.5.1", "Command not implemented")
FOREIGN: Final = Reply.of(554, "5.5.1", "This is an SMTP server")
NO_ARGUMENT: Final = Reply.of(501, "5.5.4", "The command takes no argument")
NAME_WANTED: Final = Reply.of(501, "5.5.4", "Say which host you are")
BARE_NEWLINE: Final = Reply.of(500, "5.5.2", "A command must end with CRLF")
LONG_COMMAND: Final = Reply.of(500, "5.5.2", "Command line too long")
LONG_AUTH_LINE: Final = Reply.of(500, "5.5.6", "Authentication exchange line is too long")
TOO_BIG: Final = Reply.of(552, "5.3.4", "Message is larger than this server takes")
TOO_MANY_RECIPIENTS: Final = Reply.of(452, "4.5.3", "Too many recipients; send the rest in another message")
TOO_MANY_ERRORS: Final = Reply.of(421, "4.7.0", "Too many errors")
TOO_MANY_IDLE: Final = Reply.of(421, "4.7.0", "Too many commands without a message")
TOO_MANY_COMMANDS: Final = Reply.of(421, "4.7.0", "Too many commands in one session")
TOO_MANY_MESSAGES: Final = Reply.of(421, "4.7.0", "Enough messages in one session; connect again for more")
TOO_MANY_FAILURES: Final = Reply.of(421, "4.7.0", "Too many failed authentications")
TLS_READY: Final = Reply.of(220, "2.0.0", "Ready to start TLS")
TLS_FIRST: Final = Reply.of(530, "5.7.0", "Must issue a STARTTLS command first")
TLS_ALREADY: Final = Reply.of(503, "5.5.1", "TLS is in use already")
TLS_UNOFFERED: Final = Reply.of(502, "5.5.1", "STARTTLS is not offered here")
TLS_PIPELINED: Final = Reply.of(554, "5.5.0", "Nothing may follow STARTTLS before TLS has begun")
AUTH_UNOFFERED: Final = Reply.of(502, "5.5.1", "AUTH is not offered here")
AUTH_CLEAR: Final = Reply.of(538, "5.7.11", "Encryption required for authentication; use STARTTLS first")
AUTH_ALREADY: Final = Reply.of(503, "5.5.1", "Authenticated already")
AUTH_SYNTAX: Final = Reply.of(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
AUTH_OK: Final = Reply.of(235, "2.7.0", "Authentication succeeded")
QUEUED: Final = Reply.of(250, "2.0.0", "Ok")

PLAIN_ANSWERS: Final = {"NOOP": NOTHING, "HELP": HELP}
"""Commands that do nothing but have an answer."""


def ehlo(limits: SessionLimits, auth: Sequence[str], *, max_size: int, secure: bool) -> Reply:
    """The answer to EHLO: what is offered (RFC 5321 section 4.1.1.1), the words for AUTH among it."""
    offers = ["PIPELINING", f"SIZE {max_size}", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
    if secure:
        offers.append("REQUIRETLS")
    elif limits.starttls:
        offers.append("STARTTLS")
    return Reply(250, None, (limits.hostname, *offers, *auth))
