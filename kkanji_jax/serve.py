"""Reads characters over HTTP: `python -m kkanji_jax.serve [--model M]`.

POST /predict takes one image, several in a form, or JSON with images in base64 and boxes on pages,
and answers with the rows of kkanji_jax.predict. /docs describes it, / is the page that reads in the
browser, /health and /metrics are for machines. SIGTERM and Ctrl-C let it finish what it was asked.
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
HELP = {
    "max_bytes": "of a request's body (413)",
    "max_pixels": "of an image (413)",
    "max_request_pixels": "of all images, or of all boxes, of a request (413)",
    "max_images": "images or boxes of a request (413)",
    "max_queue": "images that wait, of all requests (429)",
    "max_held_bytes": "of all bodies in memory (429)",
    "body_timeout_s": "for a body to come (408)",
    "stop_timeout_s": "for the last answers, when it is stopped",
    "batch_size": "images that go through the network together",
    "batch_wait_ms": "for other requests' images to join a batch",
}


def _parser() -> argparse.ArgumentParser:
    parser = cli.make_parser("kkanji_jax.serve", __doc__ or "", "--model bundles/b0 --port 8000")
    add = parser.add_argument
    add("--model", metavar="M", help="folder of a run, or a bundle (default: the package's)")
    add("--weights", choices=("ema", "raw"), help="default: ema where the run kept an average")
    add("--backend", choices=("onnx", "jax"), default="onnx", help="what runs the network")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is every one")
    add("--port", type=int, default=8000, help="0 is any that is free")
    add(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="scripts of this origin may ask, as https://example.org; again for another",
    )
    bounds = parser.add_argument_group("limits")
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


def serve(args: argparse.Namespace) -> None:
    """Listens until it is stopped."""
    limits = Limits(**{name: getattr(args, name) for name in HELP})
    limits.validate()
    if not 0 <= args.port <= 65535:
        raise ValueError(f"expected a --port in 0..65535, got {args.port}")
    try:
        from kkanji_jax.serving.app import make_app
        from kkanji_jax.serving.page_files import page_routes
        from kkanji_jax.serving.server import (
            listening,
            make_server,
            serve_until_stopped,
            silence_parsers,
            url_of,
        )
        from kkanji_jax.serving.service import Service
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
