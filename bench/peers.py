"""The relays that operators would use instead."""

from contenders import Contender

PEERS: tuple[Contender, ...] = ()
