"""Makes the rooms from the store, the key ring and the options."""

from relay.core.portal import Deposits
from relay.core.portal_accounts import Accounts
from relay.core.ports import Clock, Metrics, Vault
from relay.portal.ledger import Ledger
from relay.portal.mails import Mails
from relay.portal.options import PortalOptions
from relay.portal.pages import Pages
from relay.portal.passkeys import Passkeys
from relay.portal.passphrase import Passphrases
from relay.portal.rooms import Rooms
from relay.portal.sessions import Sessions
from relay.portal.tickets import Tickets
from relay.portal.tokens import Entropy


def furnish(
    options: PortalOptions,
    *,
    deposits: Deposits,
    accounts: Accounts,
    ledger: Ledger,
    vault: Vault,
    clock: Clock,
    entropy: Entropy,
    metrics: Metrics,
) -> Rooms:
    """The rooms.

    Args:
        options: what the portal is told at start.
        deposits: the portal's messages.
        accounts: who comes for them.
        ledger: over the same deposits.
        vault: of the portal's own key ring.
        clock: unix seconds.
        entropy: a cryptographic random source.
        metrics: counts.
    """
    return Rooms(
        options=options,
        deposits=deposits,
        accounts=accounts,
        ledger=ledger,
        vault=vault,
        clock=clock,
        entropy=entropy,
        metrics=metrics,
        pages=Pages(options),
        sessions=Sessions(accounts, options.sessions, clock, entropy),
        passphrases=Passphrases(options.passphrase),
        passkeys=Passkeys(options),
        tickets=Tickets(vault, clock, entropy, life=options.sessions.ceremony),
        mails=Mails(options, entropy),
    )
