"""The HTTP interface: its paths, their requests and answers, and their OpenAPI description."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from kkanji_jax.serving.docs_page import docs_page
from kkanji_jax.serving.limits import Limits, Refusal
from kkanji_jax.serving.metrics import CountedAnswers
from kkanji_jax.serving.options import RequestOptions, require_single
from kkanji_jax.serving.service import MEDIA_TYPES, Service
from kkanji_jax.serving.uploads import BYTES, FORM, JSON, PostedImages, validation_line

LACKING = "Kkanji-Lacking-Characters"
MOST_LACKING = 100  # in the header, which clients and proxies take up to a few kB
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ABOUT = (
    "Reads single characters of kuzushiji, the cursive script of old Japanese books. Post images "
    "of single characters, or a page with boxes; the answer has the rows of "
    "`python -m kkanji_jax.predict --format json`, one per candidate, best first. Nothing that is "
    "posted is kept or logged."
)
PREDICT = (
    "Each file is an image of one character, or in JSON a page with boxes. The rows are in the "
    "order of the files. If one of several files, or a box, cannot be read, its row has an "
    "`error`. If the only file cannot be read, the status is 422."
)
EXAMPLE_ROW = {
    "path": "page.jpg",
    "rank": 1,
    "character": "云",
    "codepoint": "U+4E91",
    "probability": 0.535,
    "verdict": "ask",
    "error": "",
    "id": "line 1",
    "box": [120, 80, 64, 70],
    "variants": [],
    "neighbours": [],
    "ink": "dark",
    "remark": "",
}
ROW_SCHEMA = {
    "type": "object",
    "description": "One candidate; or one image without candidates, whose `rank` is null.",
    "required": list(EXAMPLE_ROW),
    "properties": {
        "path": {"type": "string", "description": "The file's name; `-` for a body of one image."},
        "rank": {"type": ["integer", "null"], "description": "1 is the best candidate."},
        "character": {"type": ["string", "null"]},
        "codepoint": {"type": ["string", "null"], "description": "Its code point, as U+4E91."},
        "probability": {"type": ["number", "null"], "description": "In [0, 1]."},
        "verdict": {
            "type": "string",
            "description": (
                "`accept`, `ask` (compare the candidates) or `unknown` (perhaps none of the "
                "model's characters), where the model is calibrated; `blank`: no ink; `unclear`: "
                "ink and paper cannot be told apart."
            ),
        },
        "error": {"type": "string", "description": "Why the image could not be read."},
        "id": {"type": "string", "description": "The `id` of the box, unchanged."},
        "box": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "x, y, w, h in pixels of the upright page.",
        },
        "variants": {"type": "array", "description": "Other forms, as 國 of 国."},
        "neighbours": {"type": "array", "description": "Always empty here."},
        "ink": {"type": "string", "description": "`dark` or `bright`, relative to the paper."},
        "remark": {"type": "string", "description": "What may make the answer unreliable."},
    },
}
ERRORS = {
    400: "The body is empty, or is not what its Content-Type says.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, pixels, images or boxes.",
    415: "The Content-Type or the encoding is not supported.",
    422: "An option or field is missing, unknown or out of range; or the only file cannot be read.",
    429: "Too many images are waiting: try again after the seconds in Retry-After.",
    500: "The server failed; its log says more.",
    503: "The model is being loaded.",
}
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string", "description": "One line."}},
}


class Api:
    """The paths of a service."""

    def __init__(self, service: Service, about: Mapping[str, Any]) -> None:
        self._service, self._about = service, about
        self.app: FastAPI | None = None

    async def predict(
        self, request: Request, options: Annotated[RequestOptions, Query()]
    ) -> Response:
        """The characters on images."""
        require_single(request.query_params.multi_items())
        answer = await self._service.answer(request, options)
        headers = {LACKING: _shortened(answer.lacking)} if answer.lacking else {}
        return Response(answer.content, media_type=answer.media_type, headers=headers)

    async def only_post(self) -> Response:
        """405 for other methods, which without it would reach the route of the page."""
        raise HTTPException(405, headers={"Allow": "POST"})

    async def health(self) -> Response:
        """`ready` with status 200, or `loading` with 503."""
        is_ready = self._service.recogniser is not None
        told = {"status": "ready" if is_ready else "loading", **self._about}
        return JSONResponse(told, 200 if is_ready else 503)

    async def metrics(self) -> Response:
        """Counts and times in the text format of Prometheus."""
        return PlainTextResponse(self._service.metrics.text(), media_type=METRICS_TYPE)

    async def docs(self) -> Response:
        """This description, for people."""
        assert self.app is not None
        return HTMLResponse(docs_page(self.app.openapi(), self._service.limits))


def make_app(
    service: Service,
    page: Sequence[BaseRoute],
    *,
    about: Mapping[str, Any],
    allow_origins: Sequence[str] = (),
) -> FastAPI:
    """The application: POST /predict, /health, /metrics, /docs, /openapi.json, and the page at /.

    `about` is what /health returns besides the status. Only scripts from `allow_origins` may read
    the answers.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="kkanji_jax",
        version=str(about["version"]),
        description=ABOUT,
        docs_url=None,  # it would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    api = Api(service, about)
    api.app = app
    app.add_api_route(
        "/predict",
        api.predict,
        methods=["POST"],
        summary="Read characters",
        description=PREDICT,
        response_class=Response,
        responses=_responses(),
        openapi_extra={"requestBody": _request_body(service.limits)},
    )
    others = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
    app.add_api_route("/predict", api.only_post, methods=others, include_in_schema=False)
    for path, answer, summary in (
        ("/health", api.health, "Whether the model is loaded"),
        ("/metrics", api.metrics, "Counts and times, for Prometheus"),
    ):
        app.add_api_route(path, answer, summary=summary, response_class=Response)
        app.add_api_route(path, answer, methods=["HEAD"], include_in_schema=False)
    app.add_api_route("/docs", api.docs, methods=["GET", "HEAD"], include_in_schema=False)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(500, partial(_failed, frozenset(allow_origins)))
    if allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type"],
            expose_headers=["Retry-After", LACKING],
        )
    app.add_middleware(CountedAnswers, metrics=service.metrics, path="/predict")
    app.router.routes.extend(page)
    return app


def _shortened(codepoints: Sequence[str]) -> str:
    told = " ".join(codepoints[:MOST_LACKING])
    num_left_out = len(codepoints) - MOST_LACKING
    return f"{told} and {num_left_out} more" if num_left_out > 0 else told


def _responses() -> dict[int | str, dict[str, Any]]:
    rows = {"type": "array", "items": ROW_SCHEMA}
    content: dict[str, Any] = {MEDIA_TYPES["json"]: {"schema": rows, "example": [EXAMPLE_ROW]}}
    for kind in ("jsonl", "csv", "text"):
        content[MEDIA_TYPES[kind].partition(";")[0]] = {"schema": {"type": "string"}}
    headers = {
        LACKING: {
            "schema": {"type": "string"},
            "description": (
                "The characters of `chars` that the model lacks: code points, separated by "
                f"spaces. After {MOST_LACKING} of them, `and 23 more` says how many are left out."
            ),
        }
    }
    good = {"description": "The rows.", "content": content, "headers": headers}
    bad = {"application/json": {"schema": ERROR_SCHEMA}}
    told: dict[int | str, dict[str, Any]] = {200: good}
    return told | {status: {"description": t, "content": bad} for status, t in ERRORS.items()}


def _request_body(limits: Limits) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    schema = PostedImages.model_json_schema()
    parts = schema.pop("$defs")
    image = parts["PostedImage"]
    image["properties"]["boxes"]["anyOf"][0]["items"] = parts["PostedBox"]
    schema["properties"]["images"]["items"] = image
    posted = {
        "path": "page.jpg",
        "content": "/9j/4AAQSkZJRg...",
        "boxes": [{"x": 120, "y": 80, "w": 64, "h": 70, "id": "line 1"}],
    }
    return {
        "required": True,
        "description": (
            f"At most {limits.max_bytes:,} bytes, {limits.max_images} images or boxes, "
            f"{limits.max_pixels:,} pixels an image, {limits.max_request_pixels:,} a request."
        ),
        "content": {
            "image/*": binary,
            BYTES: binary,
            FORM: {"schema": {"type": "object", "properties": {"file": files}}},
            JSON: {"schema": schema, "example": {"images": [posted]}},
        },
    }


def _error(status: int, line: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": line}, status, headers)


async def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return _error(refusal.status, refusal.line, refusal.headers)


async def _invalid(_: Request, invalid: Exception) -> Response:
    assert isinstance(invalid, RequestValidationError)
    first, *others = invalid.errors()
    if first["type"] == "extra_forbidden":
        known = ", ".join(f.alias or n for n, f in RequestOptions.model_fields.items())
        name = str(first["loc"][-1])[:100]
        return _error(422, f"there is no option {name}; the options are {known}")
    return _error(422, validation_line(first, len(others)))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = {
        404: "there is nothing here: see /docs",
        405: f"{request.method} is not allowed here: see /docs",
    }
    return _error(error.status_code, told.get(error.status_code, str(error.detail)), error.headers)


async def _failed(allowed: frozenset[str], request: Request, error: Exception) -> Response:
    answer = _error(500, "an error of the server: its log says more")
    # This answer is made outside of the middleware that lets scripts read the others.
    origin = "*" if "*" in allowed else request.headers.get("origin", "")
    if origin in allowed:
        answer.headers["Access-Control-Allow-Origin"] = origin
    if allowed:
        answer.headers["Vary"] = "Origin"
    return answer
