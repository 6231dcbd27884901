"""The pages of a message and of the answers to it, in one list for the application."""

from starlette.routing import BaseRoute

from relay.core.portal_drafts import Drafts
from relay.core.ports import Scanner
from relay.portal.compose import routes as compose
from relay.portal.compose.desk import ComposeOptions, Desk
from relay.portal.message import routes as message
from relay.portal.message.pdf import PdfLimits
from relay.portal.message.reader import MessageReader, ViewLimits
from relay.portal.rooms import Rooms


def letter_routes(
    rooms: Rooms,
    drafts: Drafts,
    scanner: Scanner,
    *,
    view: ViewLimits | None = None,
    options: ComposeOptions | None = None,
    pdf: PdfLimits | None = None,
) -> list[BaseRoute]:
    """The routes, for ``application(rooms, more=...)``.

    Args:
        rooms: the portal's parts.
        drafts: what readers are writing.
        scanner: reads what they send before anybody else gets it.
        view: what showing a message may cost.
        options: what an answer may hold.
        pdf: what a PDF copy may hold.
    """
    reader = MessageReader(rooms.deposits, view)
    desk = Desk(rooms, drafts, reader, scanner, options or ComposeOptions())
    return [*message.routes(rooms, reader, drafts, pdf or PdfLimits()), *compose.routes(rooms, desk, drafts, reader)]
