"""What one server session may do."""

from dataclasses import dataclass

from relay.smtp.endofdata import BareNewlines


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """What one session may do.

    Attributes:
        hostname: our name in the greeting and in EHLO.
        max_size: octets of a message; offered as SIZE.
        max_recipients: of one message; RFC 5321 section 4.5.3.1.8 wants at least 100.
        max_command: octets of a command line without CRLF (RFC 5321 wants 510, RFC 3461 section 5.4 1036).
        max_auth_line: octets of a line of a SASL exchange without CRLF (RFC 4954 section 4 wants 12288).
        max_line: octets of a line of the message without CRLF.
        max_errors: refused commands after which the session ends with 421.
        max_idle_commands: NOOP, RSET, EHLO and the like between two messages before it ends with 421.
        max_commands: commands before it ends with 421.
        max_messages: messages before it ends with 421.
        max_auth_failures: failed authentications before it ends with 421.
        bare_newlines: whether a CR or LF outside CRLF refuses the message or is mended.
        starttls: offer STARTTLS.
        require_tls: answer 530 to all that needs TLS before it.
        auth: offer AUTH.
        auth_over_clear: offer AUTH without TLS too: for closed networks with old clients only.
        auth_equals: offer AUTH a second time as ``AUTH=``, the word that clients older than RFC 2554 look for.
    """

    hostname: str
    max_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_command: int = 2048
    max_auth_line: int = 12288
    max_line: int = 65536
    max_errors: int = 10
    max_idle_commands: int = 100
    max_commands: int = 20_000
    max_messages: int = 1000
    max_auth_failures: int = 3
    bare_newlines: BareNewlines = BareNewlines.REFUSE
    starttls: bool = False
    require_tls: bool = False
    auth: bool = False
    auth_over_clear: bool = False
    auth_equals: bool = False
