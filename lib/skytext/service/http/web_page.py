"""The web page: static files of the package."""

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
    """Return the page's Content-Security-Policy.

    The page may load only its own files, and map tiles if they are configured.
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
    """Static files that a browser must revalidate before each use.

    So the browser shows a new version of the page immediately after an upgrade.
    """

    def file_response(self, *arguments: Any, **named: Any) -> Response:
        response = super().file_response(*arguments, **named)
        response.headers["Cache-Control"] = "no-cache"
        return response


def add_page(app: FastAPI, config: ServiceConfig) -> None:
    """Serve the page at ``/``, its files below ``/page`` and its settings at ``/page.json``."""

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
            "requires_key": config.access.require_keys,
            "map_tiles_url": config.map_tiles_url,
            "map_tiles_attribution": config.map_tiles_attribution,
            "has_images": bool(config.archive_roots),
            "has_captioner": config.captioner,
        }

    if FOLDER.is_dir():
        app.mount("/page", _Files(directory=FOLDER), name="page")
