"""The document inside the frame: a message's HTML, where nothing runs and nothing is fetched (the second wall)."""

import base64
from collections.abc import AsyncIterator
from typing import Final

from markupsafe import escape

from relay.portal.message.outline import Part
from relay.portal.message.reader import Letter, MessageReader
from relay.portal.message.sanitise import places

SANDBOX: Final = "allow-same-origin allow-popups allow-popups-to-escape-sandbox"
"""What the frame may do: be measured by its page, which sets its height, and open a link that is pressed in a new
window. It may not run scripts, send forms, or lead its page elsewhere."""
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src data:; style-src-elem 'self'; style-src-attr 'unsafe-inline'; base-uri 'none'; "
        f"form-action 'none'; frame-ancestors 'self'; sandbox {SANDBOX}"
    ),
    "X-Frame-Options": "SAMEORIGIN",
    "Cache-Control": "no-store",
}
_PIECE: Final = 48 * 1024  # a multiple of 3, so that pieces of base64 can stand one after the other


async def document(
    reader: MessageReader, deposit_id: str, letter: Letter, *, language: str, title: str, stylesheet: str
) -> AsyncIterator[bytes]:
    """The document, picture by picture.

    Args:
        reader: of pictures.
        deposit_id: whose.
        letter: what is shown.
        language: of the page around it: the message's own is not known.
        title: of the document, for those who hear it.
        stylesheet: path of ``letter.css``.
    """
    head = (
        f'<!doctype html>\n<html lang="{escape(language)}">\n<head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f'<meta name="referrer" content="no-referrer"><link rel="stylesheet" href="{escape(stylesheet)}"></head>\n'
        '<body dir="auto">'
    )
    yield head.encode()
    pictures = {part.index: part for part in letter.section.pictures}
    for place in places(letter.section.html, letter.token):
        if isinstance(place, str):
            yield place.encode("utf-8", "replace")
        elif place in pictures:
            async for piece in _picture(reader, deposit_id, pictures[place]):
                yield piece
    yield b"</body>\n</html>\n"


async def _picture(reader: MessageReader, deposit_id: str, part: Part) -> AsyncIterator[bytes]:
    """``src`` with the picture in it: decoded and encoded anew, so that only the alphabet of base64 gets here."""
    yield f'src="data:{part.content_type};base64,'.encode("ascii")
    held = b""
    async for piece in reader.stream(deposit_id, part):
        held += piece
        whole = len(held) - len(held) % _PIECE
        if whole:
            yield base64.b64encode(held[:whole])
            held = held[whole:]
    yield base64.b64encode(held) + b'"'
