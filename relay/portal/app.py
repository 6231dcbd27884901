"""The application: routes, what stands before them, and what is said when something is wrong."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from relay.core.errors import StoreError, StoreFullError
from relay.core.portal import DepositState
from relay.portal import account, arrival, inbox, not_mine, recovery, signin
from relay.portal.gate import ElsewhereError, GoneError
from relay.portal.middleware import Bounds, Doorway, TooBigError, TooSlowError, Visits
from relay.portal.rooms import Rooms, rooms_of
from relay.portal.sender import routes as sender
from relay.portal.sessions import SESSION, RefusedError, SignInNeededError, cookie, drop_cookie, onward_path

log = structlog.get_logger("portal")

_FRAMES: Final = 8
_KEYS: Final = {404: "not_found", 403: "forbidden", 413: "too_big", 429: "too_many", 503: "unavailable"}


def application(rooms: Rooms, more: Sequence[BaseRoute] = ()) -> Starlette:
    """The application over these rooms.

    Args:
        rooms: its parts.
        more: further routes, such as those of messages and replies.
    """
    options = rooms.options
    app = Starlette(
        routes=[*_routes(), *more],
        middleware=[
            Middleware(Doorway, options=options, clock=rooms.clock, metrics=rooms.metrics, fault=_fault),
            Middleware(Visits, entropy=rooms.entropy),
            Middleware(Bounds, options=options, takes_files=takes_files),
        ],
        exception_handlers={
            SignInNeededError: _sign_in_needed,
            RefusedError: _refused,
            ElsewhereError: _elsewhere,
            GoneError: _gone,
            TooBigError: _too_big,
            TooSlowError: _too_slow,
            HTTPException: _http,
            StoreFullError: _full,
            StoreError: _store,
        },
    )
    app.router.redirect_slashes = False
    app.state.rooms = rooms
    return app


def takes_files(path: str) -> bool:
    """Whether the page of this path takes uploads."""
    return path.startswith("/inbox/") and path.rsplit("/", 1)[-1] in {"reply", "forward", "upload"}


def _routes() -> list[BaseRoute]:
    return [
        Route("/healthz", _healthz),
        Route("/static/{name}", _static),
        Route("/brand/{name}", _brand),
        Route("/robots.txt", _robots),
        *arrival.routes(),
        *signin.routes(),
        *recovery.routes(),
        *account.routes(),
        *inbox.routes(),
        *not_mine.routes(),
        *sender.routes(),
    ]


async def _healthz(_request: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _robots(_request: Request) -> Response:
    return PlainTextResponse("User-agent: *\nDisallow: /\n")


async def _static(request: Request) -> Response:
    return rooms_of(request).pages.static_file(request.path_params["name"]) or PlainTextResponse("not found\n", 404)


async def _brand(request: Request) -> Response:
    return rooms_of(request).pages.brand_file(request.path_params["name"]) or PlainTextResponse("not found\n", 404)


# --- when something is wrong


async def _sign_in_needed(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignInNeededError)  # noqa: S101  how the handler is registered
    query = {} if error.onward == "/inbox" else {"next": error.onward}
    if error.expired:
        query["expired"] = "1"
    response = RedirectResponse(error.step + (f"?{urlencode(query)}" if query else ""), 303)
    if error.step == "/sign-in" and cookie(request, SESSION):
        drop_cookie(response, SESSION)
    return response


async def _elsewhere(request: Request, error: Exception) -> Response:
    assert isinstance(error, ElsewhereError)  # noqa: S101
    onward = onward_path(request.url.path) if request.method in {"GET", "HEAD"} else "/inbox"
    query = "" if onward == "/inbox" else ("&" if "?" in error.path else "?") + urlencode({"next": onward})
    return RedirectResponse(error.path + query, 303)


async def _gone(request: Request, error: Exception) -> Response:
    assert isinstance(error, GoneError)  # noqa: S101
    is_expired = error.deposit.state not in {DepositState.RECALLED, DepositState.WITHDRAWN}
    words = "gone.expired" if is_expired else "gone.recalled"
    context = {"title": f"{words}_title", "words": words}
    pages = rooms_of(request).pages
    return pages.render(
        request, "gone.html", context, status=410, tenant=error.deposit.tenant, language=error.deposit.language
    )


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedError)  # noqa: S101
    log.info("portal_refused", why=error.key, route=getattr(request.scope.get("route"), "path", "none"))
    return problem(request, error.status, error.key, wait=error.wait)


async def _too_big(request: Request, _error: Exception) -> Response:
    return problem(request, 413, "too_big", closing=True)


async def _too_slow(request: Request, _error: Exception) -> Response:
    return problem(request, 408, "bad_request", closing=True)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    return problem(request, error.status_code, _KEYS.get(error.status_code, "bad_request"))


async def _store(request: Request, error: Exception) -> Response:
    log.error("portal_store_failed", detail=str(error))
    return problem(request, 503, "unavailable", wait=60)


async def _full(request: Request, error: Exception) -> Response:
    log.error("portal_store_full", detail=str(error))
    return problem(request, 503, "full", wait=600)


def _fault(scope: Scope, error: Exception) -> Response:
    log.error("portal_fault", kind=type(error).__name__, where=_where(error))
    return problem(Request(scope), 500, "fault")


def _where(error: BaseException) -> list[str]:
    """Files and lines of a fault, without values: what a traceback shows may hold a patient's data (law 4)."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return frames[-_FRAMES:]


def problem(request: Request, status: int, key: str, *, wait: float = 0.0, closing: bool = False) -> Response:
    """An error page: plain words, and what to do.

    Args:
        request: what is answered.
        status: of the answer.
        key: of the words: ``error.<key>``.
        wait: seconds after which it may be tried again; 0 when that does not matter.
        closing: the connection cannot be used again: part of the body was not read.
    """
    title = "error.title" if key == "fault" else f"error.{key}_title"
    context = {"title": title, "words": f"error.{key}", "minutes": max(1, round(wait / 60))}
    response = rooms_of(request).pages.render(request, "error.html", context, status=status)
    if wait:
        response.headers["retry-after"] = str(int(wait) + 1)
    if closing:
        response.headers["connection"] = "close"
    return response
