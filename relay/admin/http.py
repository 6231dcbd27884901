"""HTTP for monitoring: ``/metrics``, ``/livez`` and ``/readyz``, on loopback unless told otherwise."""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from relay.core.errors import Problem, ProblemsError

log = structlog.get_logger("http")

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"

Check = Callable[[], Awaitable[str]]
"""Looks at one thing that must be right to serve; empty when it is, else what is wrong, for operators."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Where to listen.

    Attributes:
        address: an IP address; anything but loopback needs a network that only monitoring can reach.
        port: 0 takes any free one.
        check_deadline: seconds one readiness check may take.
        connections: how many at once; beyond it the answer is 503.
    """

    address: str = "127.0.0.1"
    port: int = 8025
    check_deadline: float = 5.0
    connections: int = 64


def application(
    render: Callable[[], Awaitable[bytes]], checks: Mapping[str, Check], *, deadline: float = 5.0
) -> Starlette:
    """The application.

    Args:
        render: the text for Prometheus.
        checks: by name: store, disk, workers, policy, dns, certificates.
        deadline: seconds a check may take; one that takes longer has failed.
    """

    async def metrics(_request: Request) -> Response:
        return Response(await render(), media_type=CONTENT_TYPE)

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        results = await asyncio.gather(*(_run(name, check, deadline) for name, check in checks.items()))
        found = dict(zip(checks, results, strict=True))
        ready = not any(found.values())
        body = {"ready": ready, "checks": {name: wrong or "ok" for name, wrong in found.items()}}
        return JSONResponse(body, status_code=200 if ready else 503)

    return Starlette(
        routes=[Route("/metrics", metrics), Route("/livez", livez), Route("/readyz", readyz)],
        exception_handlers={Exception: _fault},
    )


async def _run(name: str, check: Check, deadline: float) -> str:
    try:
        async with asyncio.timeout(deadline):
            return await check()
    except TimeoutError:
        return f"no answer within {deadline:g} s"
    except Exception:
        log.exception("a readiness check failed", check=name)
        return "the check itself failed; the log says more"


async def _fault(_request: Request, error: Exception) -> Response:
    log.error("an HTTP request failed", exc_info=error)
    return PlainTextResponse("internal error\n", status_code=500)


class HttpServer:
    """Serves the application with uvicorn inside the running loop, without touching its signal handlers."""

    def __init__(self, options: HttpOptions, app: Starlette, protocol: type[asyncio.Protocol] | None = None) -> None:
        """Take the application.

        Args:
            options: where and how.
            app: what is served.
            protocol: speaks HTTP as uvicorn's do, with deadlines for slow clients; ``None``: uvicorn's own, without.
        """
        self._options = options
        self._server = _Server(
            uvicorn.Config(
                app,
                http=protocol or "auto",
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                date_header=False,
                limit_concurrency=options.connections,
                timeout_keep_alive=15,
                timeout_graceful_shutdown=3,
            )
        )
        self._task: asyncio.Task[None] | None = None
        self.port = options.port

    async def start(self) -> None:
        """Listen, and return when requests are answered; ``port`` is the real one then.

        Raises:
            ProblemsError: the address cannot be bound.
        """
        listening = self._bind()
        self.port = listening.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listening]))
        ready = asyncio.create_task(self._server.up.wait())
        await asyncio.wait({self._task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            await self._task

    async def stop(self) -> None:
        """Answer what is under way and close."""
        if self._task is not None:
            self._server.should_exit = True
            await self._task

    def _bind(self) -> socket.socket:
        address, port = self._options.address, self._options.port
        listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((address, port))
        except OSError as error:
            listening.close()
            raise ProblemsError(
                Problem(
                    where=f"{address}:{port}",
                    what=f"cannot listen for metrics and health: {error.strerror}",
                    hint="change admin.address or admin.port",
                )
            ) from error
        return listening


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The process has its own handlers."""
        yield
