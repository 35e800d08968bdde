"""The routes of the web page (`kkanji_jax.web`): its assets, and a bundle's weights."""

from pathlib import Path

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from kkanji_jax.saved.bundle import PARAMS, WEB, is_bundle, read_bundle
from kkanji_jax.web.web_page import ASSETS, MODEL, model_content, model_text

NO_PAGE = (
    "The page reads a bundle, and this server reads a run. Export the run "
    "(python -m kkanji_jax.export --model RUN --out BUNDLE) and serve the bundle.\n"
)


def page_routes(model: Path) -> list[BaseRoute]:
    """Routes of the page at / for a bundle; for a run, a line that says how to export one.

    If the bundle was exported with a page, that page is served, with its examples of characters.
    The last route takes all remaining paths.
    """
    if not is_bundle(model):
        return [Route("/", lambda request: PlainTextResponse(NO_PAGE))]
    if (model / WEB).is_dir():
        return [Mount("/", StaticFiles(directory=model / WEB, html=True))]
    bundle = read_bundle(model)
    content = model_content(bundle, model / PARAMS, bundle.about["dtype"])
    text = model_text(content).encode()
    return [
        Route(f"/{MODEL}", lambda request: Response(text, media_type="application/json")),
        Route(f"/{PARAMS}", lambda request: FileResponse(model / PARAMS)),
        Mount("/", StaticFiles(directory=ASSETS, html=True)),
    ]
