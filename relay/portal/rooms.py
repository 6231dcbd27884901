"""What every page of the portal works with, made once at start and never changed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from starlette.requests import Request

from relay.core.portal import Deposits
from relay.core.portal_accounts import Accounts
from relay.core.ports import Clock, Metrics, Vault
from relay.portal.options import PortalOptions
from relay.portal.tokens import Entropy

if TYPE_CHECKING:
    from relay.portal.ledger import Ledger
    from relay.portal.mails import Mails
    from relay.portal.pages import Pages
    from relay.portal.passkeys import Passkeys
    from relay.portal.passphrase import Passphrases
    from relay.portal.sessions import Sessions
    from relay.portal.tickets import Tickets


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The portal's parts, by name.

    Attributes:
        options: what it was told at start.
        deposits, accounts: its store.
        ledger: what happens to a message: opened, not me.
        vault: of the portal's own key ring.
        clock: unix seconds.
        entropy: a cryptographic random source.
        metrics: counts.
        pages: renders templates.
        sessions: who is signed in.
        passphrases: hashes and judges secrets.
        passkeys: asks browsers for passkeys, and judges their answers.
        tickets: seals what a page needs again from its own form.
        mails: writes the mail it sends.
    """

    options: PortalOptions
    deposits: Deposits
    accounts: Accounts
    ledger: "Ledger"
    vault: Vault
    clock: Clock
    entropy: Entropy
    metrics: Metrics
    pages: "Pages"
    sessions: "Sessions"
    passphrases: "Passphrases"
    passkeys: "Passkeys"
    tickets: "Tickets"
    mails: "Mails"


def rooms_of(request: Request) -> Rooms:
    """The rooms of the application that serves this request."""
    return cast("Rooms", request.app.state.rooms)
