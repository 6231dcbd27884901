"""Pages from templates: what each of them can read, and the files that they name."""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from relay.core.portal_accounts import Assurance, Session
from relay.portal.brand import Brand, stylesheet
from relay.portal.moments import Moments, size
from relay.portal.options import PortalOptions
from relay.portal.sessions import CSRF_FIELD, csrf_token, set_cookie
from relay.portal.words import DEFAULT, LANGUAGES, Words, choose, words

LANGUAGE: Final = "__Host-language"
_TYPES: Final = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "png": "image/png",
    "webp": "image/webp",
    "woff2": "font/woff2",
}
_YEAR: Final = 31_536_000
_FOR_A_YEAR: Final = f"public, max-age={_YEAR}, immutable"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrandView:
    """A brand as a template reads it: texts, and paths of its files; empty where it has none."""

    name: str
    address: str
    phone: str
    stylesheet: str
    logo: str


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    type: str
    version: str


class Pages:
    """Renders templates. All static files are held in memory: no request names a path on disk."""

    def __init__(self, options: PortalOptions) -> None:
        """Read templates and static files.

        Args:
            options: brands and times.
        """
        self._options = options
        self.moments = Moments(options.time_zone)
        self._environment = _environment()
        self._static = {item.name: _file(item.name, item.read_bytes()) for item in _static_files()}
        self._brands = {"": options.brand, **options.brands}
        self._files = {
            path: file for tenant, brand in self._brands.items() for path, file in _brand_files(tenant, brand).items()
        }

    @property
    def options(self) -> PortalOptions:
        """What the portal was told at start."""
        return self._options

    def render(
        self,
        request: Request,
        template: str,
        context: Mapping[str, Any] | None = None,
        *,
        status: int = 200,
        tenant: str | None = None,
        language: str = "",
    ) -> HTMLResponse:
        """A page.

        Args:
            request: its session, language and path are the page's.
            template: the file's name.
            context: what it reads beside what every page can.
            status: of the response.
            tenant: whose look; ``None``: that of the session.
            language: of the message, when the reader has chosen none.
        """
        session: Session | None = getattr(request.state, "session", None)
        if session is not None and (session.locked or session.assurance is Assurance.PENDING):
            session = None
        tenant = (session.tenant if session else "") if tenant is None else tenant
        spoken = language_of(request, language)
        values = self._common(request, words(spoken), tenant) | {"session": session} | dict(context or {})
        response = HTMLResponse(self._environment.get_template(template).render(values), status)
        if request.query_params.get("lang") == spoken:  # the reader chose it, for the pages that follow as well
            set_cookie(response, LANGUAGE, spoken, lasts=_YEAR)
        return response

    def _common(self, request: Request, spoken: Words, tenant: str) -> dict[str, Any]:
        token = csrf_token(request)
        idle = self._options.sessions.idle

        def csrf() -> Markup:
            return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, token)

        return {
            "t": spoken,
            "language": spoken.language,
            "languages": [(tag, name) for tag, name in LANGUAGES.items() if tag != spoken.language],
            "brand": self.brand(tenant),
            "csrf": csrf,
            "csrf_token": token,
            "path": _own_path(request.url.path),
            "in_language": lambda tag: _in_language(request, tag),
            "not_me": "",
            "static": self.static,
            "origin": self._options.origin,
            "host": self._options.host,
            "session_minutes": round(idle / 60),
            "session_seconds": int(idle),
            "warn_seconds": int(self._options.sessions.warn),
            "when": lambda moment: self.moments.when(moment, spoken),
            "day": lambda moment: self.moments.day(moment, spoken),
            "size": lambda octets: size(octets, spoken),
        }

    def brand(self, tenant: str) -> BrandView:
        """A tenant's brand as templates read it."""
        brand = self._options.brand_of(tenant)
        key = tenant if tenant in self._options.brands else ""
        style, logo = _brand_paths(key)
        return BrandView(
            name=brand.name,
            address=brand.address,
            phone=brand.phone,
            stylesheet=self._versioned(style),
            logo=self._versioned(logo) if brand.logo else "",
        )

    def static(self, name: str) -> str:
        """The path of a static file, with its version.

        Raises:
            KeyError: there is none: a fault of the template.
        """
        return f"/static/{name}?v={self._static[name].version}"

    def _versioned(self, path: str) -> str:
        return f"/brand/{path}?v={self._files[path].version}"

    def static_file(self, name: str) -> Response | None:
        """A static file, to be kept by browsers: a new version has a new address."""
        return _served(self._static.get(name))

    def brand_file(self, name: str) -> Response | None:
        """A brand's style sheet or logo."""
        return _served(self._files.get(name))


def _own_path(path: str) -> str:
    """A path of this host for links: what begins with two slashes, or one of them backwards, would lead elsewhere."""
    return "/" + quote(path, safe="/", errors="replace").lstrip("/")


def _in_language(request: Request, tag: str) -> str:
    """This very page in another language: of a reply to all, no reply to one."""
    rest = [(key, value) for key, value in request.query_params.multi_items() if key != "lang"]
    return f"{_own_path(request.url.path)}?{urlencode([*rest, ('lang', tag)], errors='replace')}"


@functools.cache
def _environment() -> jinja2.Environment:
    """Compiled templates, shared by all in this process; a value that is missing is a fault and not an empty place."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("relay.portal", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def language_of(request: Request, preferred: str = "") -> str:
    """The reader's language: what they chose here; the message's, where it is not the usual one; their browser's.

    A message in the usual language says little of its reader: a clinic writes so to everybody.
    """
    chosen = request.query_params.get("lang", ""), request.cookies.get(LANGUAGE, "")
    asked = "" if preferred == DEFAULT else preferred
    return choose((*chosen, asked), request.headers.get("accept-language", ""), preferred or DEFAULT)


def _static_files() -> list[Any]:
    return [item for item in resources.files("relay.portal").joinpath("static").iterdir() if item.is_file()]


def _file(name: str, content: bytes, kind: str = "") -> _File:
    known = kind or _TYPES[name.rpartition(".")[2]]
    return _File(content, known, hashlib.sha256(content).hexdigest()[:12])


def _brand_paths(tenant: str) -> tuple[str, str]:
    key = hashlib.sha256(tenant.encode("utf-8")).hexdigest()[:12]
    return f"{key}.css", f"{key}.logo"


def _brand_files(tenant: str, brand: Brand) -> dict[str, _File]:
    style, logo = _brand_paths(tenant)
    files = {style: _file(style, stylesheet(brand).encode("ascii"))}
    return files | ({logo: _file(logo, brand.logo, brand.logo_type)} if brand.logo else {})


def _served(file: _File | None) -> Response | None:
    if file is None:
        return None
    return Response(file.content, media_type=file.type, headers={"cache-control": _FOR_A_YEAR})
