"""Links to the page of what somebody sent. They are sealed, so that none can be made up, and give no right."""

import base64
import binascii
from collections.abc import Callable
from typing import Final

from relay.core.errors import SealError
from relay.core.portal import Deposit
from relay.core.ports import Vault

PATH: Final = "/sent/m/"
_PURPOSE: Final = "portal-sent"
_MOST: Final = 512


def sender_page(vault: Vault, origin: str) -> Callable[[Deposit], str]:
    """What gives the address of a deposit's page for its sender.

    Args:
        vault: over the portal's own key ring.
        origin: of the portal, without a slash at its end.
    """
    return lambda deposit: origin + PATH + token_of(vault, deposit.message_id)


def token_of(vault: Vault, message_id: str) -> str:
    """What stands in the address for a message."""
    return base64.urlsafe_b64encode(vault.seal(_PURPOSE, "", message_id.encode("utf-8"))).decode("ascii").rstrip("=")


def message_of(vault: Vault, token: str) -> str:
    """The id of the message that a token was made for; empty for one that we did not make."""
    if len(token) > _MOST:
        return ""
    try:
        sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return vault.open(_PURPOSE, "", sealed).decode("utf-8")
    except (binascii.Error, ValueError, SealError):
        return ""
