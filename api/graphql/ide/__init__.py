"""The page for trying queries: GraphiQL, bundled from locked packages by `make ide`, in development and demo alone.

Owns its address and the few files that it loads; nothing of it comes from anywhere else, and it knows no token.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent
_LOADED = {"graphiql.js": "text/javascript", "graphiql.css": "text/css", "LICENSES.txt": "text/plain"}
#: Its editor writes styles into the page; scripts come from the file alone.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def routes() -> list[Route]:
    """Return the page at `/graphql` for browsers, and what it loads."""
    return [
        Route("/graphql", _page, methods=["GET"]),
        Route("/graphql/ide/{name}", _loaded, methods=["GET"]),
    ]


async def _page(_: Request) -> Response:
    return FileResponse(_FOLDER / "index.html", media_type="text/html", headers=_HEADERS)


async def _loaded(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _LOADED:
        return Response(status_code=404)
    return FileResponse(_FOLDER / name, media_type=_LOADED[name], headers=_HEADERS)
