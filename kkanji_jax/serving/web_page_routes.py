"""The routes of the web page (`kkanji_jax.web`): its assets, and a bundle's weights."""

import os
from dataclasses import replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from kkanji_jax.saved.bundle import PARAMS, WEB, is_bundle, read_bundle
from kkanji_jax.saved.trained import load_trained
from kkanji_jax.web.web_page import ASSETS, MODEL, model_content, model_text

JSON = "application/json"
NO_PAGE = (
    "The page reads a bundle, and this server reads a run. Export the run "
    "(python -m kkanji_jax.export --model RUN --out BUNDLE) and serve the bundle.\n"
)
CHECKED = {"Cache-Control": "no-cache"}  # kept by browsers, and asked for anew before each use


class PageFiles(StaticFiles):
    """Files that a browser keeps, and uses again only after the server said that they are the same.

    Without that it would guess for how long, and after an update run scripts of the old page with
    the new ones, or with the new model.
    """

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file; 304 without it, if the browser has it."""
        answer = super().file_response(full_path, stat_result, scope, status_code)
        answer.headers.update(CHECKED)
        return answer


def page_routes(model: Path) -> list[BaseRoute]:
    """Routes of the page at / for a bundle; for a run, a line that says how to export one.

    If the bundle was exported with a page, that page is served, with its examples of characters.
    The last route takes all remaining paths.
    """
    if not is_bundle(model):
        return [Route("/", lambda request: PlainTextResponse(NO_PAGE))]
    if (model / WEB).is_dir():
        return [Mount("/", PageFiles(directory=model / WEB, html=True))]
    # Without a calibration of other weights, which `read_bundle` does not judge.
    bundle = replace(read_bundle(model), calibration=load_trained(model).calibration)
    files, weights = PageFiles(directory=ASSETS, html=True), model / PARAMS
    content = model_content(bundle, model / PARAMS, bundle.about["dtype"])
    text = model_text(content).encode()

    def send_weights(request: Request) -> Response:
        return files.file_response(weights, weights.stat(), request.scope)

    return [
        Route(f"/{MODEL}", lambda request: Response(text, headers=CHECKED, media_type=JSON)),
        Route(f"/{PARAMS}", send_weights),
        Mount("/", files),
    ]
