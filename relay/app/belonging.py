"""Whether a key ring and a store belong together: asked before anything is opened, for a wrong ring opens nothing.

Without this, a process that is given another installation's ring would find every message damaged and set it aside.
"""

from pathlib import Path
from typing import Final

import structlog

from relay.core.errors import Problem, ProblemsError, SealError, StoreUnavailableError
from relay.core.ports import Knowledge, Known, Vault
from relay.core.suppression import FOREVER

log = structlog.get_logger("keys")

_KIND: Final = "ring"
_NAME: Final = "seal"
_PLAIN: Final = b"whoever opens this has the key ring of this store"
_VERSION: Final = 7
"""Octets at the beginning of a sealed thing that say under which version of the key (relay/protect/sealing.py)."""


async def prove_ring(store: Knowledge, vault: Vault, keys_dir: Path) -> None:
    """Open what an earlier process sealed for this, and leave it sealed under the newest key.

    A store that is away now proves nothing, and nothing is lost by it: each process asks again when it starts.

    Raises:
        ProblemsError: the store was sealed with another ring.
    """
    try:
        known = await store.known(_KIND, _NAME)
        if known is not None:
            _open(vault, known.value, keys_dir)
        sealed = vault.seal(_KIND, _NAME, _PLAIN)
        if known is None or sealed[:_VERSION] != known.value[:_VERSION]:
            await store.learn(Known(kind=_KIND, name=_NAME, value=sealed, until=FOREVER))
    except StoreUnavailableError as error:
        log.warning("the key ring could not be proved", why=str(error))


def _open(vault: Vault, sealed: bytes, keys_dir: Path) -> None:
    try:
        vault.open(_KIND, _NAME, sealed)
    except SealError as error:
        raise ProblemsError(
            Problem(
                where=str(keys_dir),
                what=f"this key ring did not seal the mail that is in the queue ({error}); nothing was touched",
                hint="put the ring back that belongs to it (`postern keys recovery restore`), or name another data_dir",
            )
        ) from error
