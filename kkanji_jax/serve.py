"""Reads characters over HTTP: `python -m kkanji_jax.serve [--model M]`.

POST /predict takes one image, several images in a form, or JSON with images in base64 and boxes on
pages, and answers with the rows of kkanji_jax.predict. /docs describes the interface, / is the web
page, /health and /metrics are for monitoring. SIGTERM and Ctrl-C stop the server after the last
answer.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from kkanji_jax import __version__, cli
from kkanji_jax.serving.limits import Limits

NOT_INSTALLED = 'pip install "kkanji_jax[serve]"'
ORIGIN = "https://example.org"
_USUAL_PORTS = {"http": ":80", "https": ":443"}  # which browsers leave out
HELP = {
    "max_bytes": "bytes of a request's body (413)",
    "max_pixels": "pixels of an image without boxes (413)",
    "max_request_pixels": "pixels of all images, or of all boxes, of a request (413)",
    "max_images": "images and boxes in a request (413)",
    "max_queue": "images of all requests that are not answered yet (429)",
    "max_held_bytes": "bytes of all request bodies in memory (429)",
    "body_timeout_s": "seconds for a body to arrive (408)",
    "stop_timeout_s": "seconds for the last answers, when the server is stopped",
    "batch_size": "most images in a batch",
    "batch_wait_ms": "milliseconds that a batch waits for images of other requests",
}


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("kkanji_jax.serve", __doc__ or "", "--model bundles/b0 --port 8000")
    add = parser.add_argument
    add("--model", metavar="M", help="folder of a run, or a bundle (default: the package's)")
    add("--weights", choices=("ema", "raw"), help="default: ema where the run kept an average")
    add(
        "--backend",
        choices=("onnx", "jax"),
        default="onnx",
        help="runs the network; jax also on a GPU",
    )
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all")
    add("--port", type=int, default=8000, help="port to listen on; 0: any free one")
    add(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help=f"allow scripts of this origin, as {ORIGIN}; may be repeated",
    )
    bounds = parser.add_argument_group(
        "limits", "In brackets: the HTTP status of a request that exceeds the limit."
    )
    for field in fields(Limits):
        if field.name in HELP:
            flag = f"--{field.name.replace('_', '-')}"
            is_whole = field.type is int
            bounds.add_argument(
                flag,
                type=int if is_whole else float,
                default=field.default,
                metavar="N" if is_whole else field.name.rpartition("_")[2].upper(),
                help=HELP[field.name],
            )
    return parser


def _require_origin(origin: str) -> None:
    """ValueError for what no browser sends as an origin: it would be compared in vain."""
    scheme, _, rest = origin.partition("://")
    server = rest.partition("/")[0].lower().removesuffix(_USUAL_PORTS.get(scheme.lower(), ":"))
    sent = f"{scheme.lower()}://{server}" if server else ORIGIN
    if origin not in ("*", "null", sent):
        raise ValueError(
            f"--allow-origin must be an origin as browsers send it, as {sent}, not {origin}"
        )


def serve(args: argparse.Namespace) -> None:
    """Serves until it is stopped."""
    limits = Limits(**{name: getattr(args, name) for name in HELP})
    limits.validate()
    for origin in args.allow_origin:
        _require_origin(origin)
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port must be in 0..65535, not {args.port}")
    try:
        from kkanji_jax.serving.app import make_app
        from kkanji_jax.serving.server import (
            listening,
            make_server,
            serve_until_stopped,
            silence_parsers,
            url_of,
        )
        from kkanji_jax.serving.service import Service
        from kkanji_jax.serving.web_page_routes import page_routes
    except ModuleNotFoundError as err:
        raise ValueError(f"{err}, which serving needs: {NOT_INSTALLED}") from err
    from kkanji_jax.inference.recogniser import Recogniser, check_model, load

    model = check_model(args.model)

    def load_model() -> Recogniser:
        return load(args.model, weights=args.weights, backend=args.backend)

    def stop() -> None:
        server.should_exit = True

    service = Service(load_model, limits, on_failure=stop)
    about = {"model": Path(model).name, "version": __version__}
    app = make_app(service, page_routes(model), about=about, allow_origins=args.allow_origin)
    server = make_server(app, limits)
    listener = listening(args.host, args.port)
    print(f"serving {model} on {url_of(listener)}", file=sys.stderr)
    silence_parsers()
    serve_until_stopped(server, listener)
    if service.failure is not None:
        raise service.failure
    print("stopped", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Serves; 0 when stopped, or 1 with one line on stderr."""
    args = _parser().parse_args(argv)
    return cli.answer(lambda: serve(args))


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.serve` and kkanji-serve."""
    cli.run(main)


if __name__ == "__main__":
    run()
