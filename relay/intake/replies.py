"""What intake answers by itself, beyond what the session machine says (RFC 3463, RFC 4954, RFC 5248)."""

from typing import Final

from relay.core.reply import Reply

FAULT: Final = Reply.of(451, "4.3.0", "Something failed here; try again later")
BROKEN: Final = Reply.of(421, "4.3.0", "Something failed here; try again later")
NOT_ADMITTED: Final = Reply.of(554, "5.7.1", "Connections from your address are not accepted here")
SHUTTING_DOWN: Final = Reply.of(421, "4.3.2", "Going down for maintenance; try again soon")
TIMED_OUT: Final = Reply.of(421, "4.4.2", "Timed out waiting for you")
AUTH_FAILED: Final = Reply.of(535, "5.7.8", "Authentication credentials invalid")
AUTH_REQUIRED: Final = Reply.of(530, "5.7.0", "Authentication required")
NO_CLIENT: Final = Reply.of(550, "5.7.1", "No client is configured for your address")
SENDER_REFUSED: Final = Reply.of(550, "5.7.1", "This client may not send as that address")
