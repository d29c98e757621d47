"""The routes of the web page. The page consists of static files in this package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from skytext.config.service import ServiceConfig
from skytext.service.problem_details import ProblemError

FOLDER = Path(str(files("skytext.service"))) / "web"


def content_security_policy(config: ServiceConfig) -> str:
    """Return the value of the header ``Content-Security-Policy``.

    With this policy, the web page can load only its own files and the configured map tiles.
    """
    tiles = ""
    if config.map_tiles_url is not None:
        parts = urlsplit(config.map_tiles_url)
        tiles = f" {parts.scheme}://{parts.netloc.replace('{s}', '*')}"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        f"font-src 'self'; img-src 'self' blob: data:{tiles}; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Files(StaticFiles):
    """Static files. Before a browser uses a cached file, the browser must revalidate the file.

    Therefore, after an upgrade of the service, a browser shows the new version of the page.
    """

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_page(app: FastAPI, config: ServiceConfig) -> None:
    """Add the routes of the web page.

    The page is at ``/``, its files are below ``/page``, and its settings are at ``/page.json``.
    """

    @app.get("/", include_in_schema=False)
    async def index() -> Response:
        if not (FOLDER / "index.html").is_file():
            raise ProblemError(
                404, "no-page", "this installation contains no web page: use the API below /v1"
            )
        return FileResponse(FOLDER / "index.html", headers={"Cache-Control": "no-cache"})

    @app.get("/page.json", include_in_schema=False)
    async def settings() -> dict[str, Any]:
        return {
            "requires_key": config.access.require_keys is True,
            "map_tiles_url": config.map_tiles_url,
            "map_tiles_attribution": config.map_tiles_attribution,
            "has_images": bool(config.archive_roots),
            "has_captioner": config.captioner,
        }

    if FOLDER.is_dir():
        app.mount("/page", _Files(directory=FOLDER), name="page")
