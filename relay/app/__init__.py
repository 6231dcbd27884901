"""The composition root: settings to objects. Only here do concrete classes of all rooms meet."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.app.base import Service


def service(role: str, name: str, *, snapshot: Path | None, config: Path | None) -> "Service":
    """The service of one role process.

    Args:
        role: ``worker``, ``admin``, ``extract`` or ``portal``.
        name: the process's name in logs and leases.
        snapshot: the snapshot directory that the supervisor wrote, or
        config: the configuration file, when the role runs alone.

    Raises:
        PosternError: what it reads cannot be used.
    """
    from relay.app.base import Life, Site  # noqa: PLC0415  the supervisor imports from here, and needs no settings

    site = Site.of(snapshot=snapshot, config=config)
    life = Life(site=site, name=name)
    if role == "extract":
        from relay.app.helper import HelperService  # noqa: PLC0415  a role loads what it needs alone

        return HelperService(life)
    if role == "admin":
        from relay.app.admin import AdminService  # noqa: PLC0415  a role loads what it needs alone

        return AdminService(life)
    if role == "portal":
        from relay.app.portal import PortalService  # noqa: PLC0415  a role loads what it needs alone

        return PortalService(life)
    from relay.app.worker import WorkerService  # noqa: PLC0415  a role loads what it needs alone

    return WorkerService(life)
