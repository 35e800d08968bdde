"""Pages of IIIF: the images of a presentation manifest, or a list of addresses.

Presentation API 3 (https://iiif.io/api/presentation/3.0/): Manifest.items are Canvases, whose items
are AnnotationPages of Annotations with the motivation painting and a body of type Image. 2.1:
sc:Manifest.sequences[0].canvases[].images[].resource. If an image has a service of the Image API
(https://iiif.io/api/image/3.0/, 2.1), the whole image is requested: {id}/full/max/0/default.jpg of
version 3, and {id}/full/full/0/default.jpg of versions 2 and 1.1.
"""

import io
import json
import re
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import unquote, urljoin

from kkanji_jax.glyphs.image_files import DAMAGES, MAX_PAGE_PIXELS, open_image
from kkanji_jax.pages.annotations import id_of, type_of
from kkanji_jax.pages.box import Canvas
from kkanji_jax.pages.fetch import Fetched, Fetcher

LIST_SUFFIXES = (".txt", ".json")
_IMAGE = re.compile(r"/(?:full|square|pct:[^/]+|[\d.,]+)/[^/]+/!?[\d.]+/\w+\.\w+$")
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".jp2", ".webp", ".gif")


class IiifPage(NamedTuple):
    """One image: its id as given, its other names, its address, or why it cannot be fetched."""

    id: str
    names: tuple[str, ...] = ()
    canvas: Canvas | None = None
    url: str = ""
    error: str = ""


def is_address(path: str) -> bool:
    """Whether a PATH is an address on the web."""
    return path.startswith(("http://", "https://"))


def pages_of_address(url: str, fetcher: Fetcher) -> Iterator[IiifPage]:
    """The image at an address, or all of a manifest; a page that cannot be fetched has an error.

    An image's base address, its info.json and any address of the Image API give one image.
    """
    if _IMAGE.search(url) or url.lower().endswith(_SUFFIXES):
        yield _page_at(url, url)
        return
    try:
        answer = fetcher.get(url)
        if answer.content.lstrip()[:1] in (b"{", b"["):
            yield from _pages_of_json(_parsed(answer.content, url), url, answer.url)
        else:
            _check(url, answer)
            fetcher.keep(url, answer)
            yield _page_at(url, url)
    except ValueError as err:
        yield IiifPage(url, error=str(err))
    except OSError as err:  # of Pillow, or of the cache; in a list, the other addresses still come
        yield IiifPage(url, error=f"{url}: {' '.join(str(err).split())}")


def pages_of_list(content: bytes, path: str, base_url: str, fetcher: Fetcher) -> Iterator[IiifPage]:
    """The pages of a file: a manifest, an info.json, or a list of addresses.

    A list is JSON, or text with one address per line, in which lines that begin with # are
    comments. An address is one that `pages_of_address` takes, or relative to `base_url`. Ids are
    unchanged.
    """
    text = _text(content, path)
    if text.lstrip()[:1] in ("{", "["):
        parsed = _parsed(text.encode(), path)
        if isinstance(parsed, dict):
            yield from _pages_of_json(parsed, path, base_url)
            return
        if not all(isinstance(each, str) for each in parsed):
            raise ValueError(f"expected a IIIF manifest or a list of addresses in {path}")
        lines = parsed
    else:
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"no addresses in {path}")
    for line in lines:
        url = urljoin(base_url, line) if base_url else line
        if not is_address(url):
            yield IiifPage(
                line, error="expected an address of http:// or https://, or --base-url with it"
            )
            continue
        for page in pages_of_address(url, fetcher):
            if page.id == url:  # one image, by the name that the list has for it
                yield page._replace(id=line, names=(*page.names, url))
            else:
                yield page


def open_page(page: IiifPage, fetcher: Fetcher) -> io.BytesIO:
    """The image of a page, from the cache or its server; ValueError if it is not an image."""
    answer = fetcher.kept(page.url)
    if answer is None:
        answer = fetcher.get(page.url)
        _check(page.url, answer)
        fetcher.keep(page.url, answer)
    return _stream(page.url, answer)


def _stream(url: str, answer: Fetched) -> io.BytesIO:
    stream = io.BytesIO(answer.content)
    stream.name = url  # pyright: ignore[reportAttributeAccessIssue]
    return stream


def _check(url: str, answer: Fetched) -> None:
    """ValueError unless the answer is a complete image: nothing else may enter the cache."""
    if not answer.content:
        raise ValueError(f"{url}: an empty answer")
    if answer.kind.startswith("text/") or answer.kind.endswith(("json", "xml")):
        raise ValueError(f"{url}: expected an image, got {answer.kind}")
    with open_image(_stream(url, answer), url, MAX_PAGE_PIXELS) as image:
        if image.width * image.height > MAX_PAGE_PIXELS:
            raise ValueError(f"{url}: expected at most {MAX_PAGE_PIXELS:,} pixels")
        image.draft(None, (image.width // 8, image.height // 8))  # JPEG: quick
        try:
            image.load()
        except (OSError, ValueError, *DAMAGES) as err:
            raise ValueError(f"{url}: the image is damaged or cut short: {err}") from err


def opener(page: IiifPage, fetcher: Fetcher) -> partial[io.BytesIO]:
    """A function that opens the page."""
    return partial(open_page, page, fetcher)


# --- JSON --------------------------------------------------------------------------------------


def _text(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise ValueError(f"{path} is not UTF-8: save it as UTF-8") from err


def _parsed(content: bytes, where: str) -> Any:
    try:
        return json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as err:
        raise ValueError(f"{where}: expected JSON of IIIF: {err}") from err


def _pages_of_json(content: Any, where: str, base: str) -> Iterator[IiifPage]:
    named = type_of(content).removeprefix("sc:")
    if named == "Manifest":
        canvases = content.get("items")
        if canvases is None:
            sequences = content.get("sequences") or [{}]
            canvases = sequences[0].get("canvases", []) if isinstance(sequences[0], dict) else []
        if not isinstance(canvases, list) or not canvases:
            raise ValueError(f"{where}: a manifest without canvases")
        for number, canvas in enumerate(canvases, 1):
            yield _page_of_canvas(canvas, f"{where}#{number}", base)
    elif named == "Collection":
        members = content.get("items", content.get("manifests", content.get("members")))
        first = next((id_of(each) for each in _listed(members) if id_of(each)), "")
        as_first = f", as {first}" if first else ""
        raise ValueError(f"{where}: a collection, expected one of its manifests{as_first}")
    elif isinstance(content, dict) and {"width", "height"} <= content.keys() and id_of(content):
        yield _page_at(where, _whole(content))
    else:
        raise ValueError(f"{where}: expected a IIIF manifest or an image's info.json")


def _page_of_canvas(canvas: Any, fallback: str, base: str) -> IiifPage:
    name = id_of(canvas) or fallback
    images = list(_images_of(canvas))
    if not images:
        return IiifPage(name, error="this canvas has no image")
    if len(images) > 1:
        return IiifPage(name, error=f"this canvas has {len(images)} images, expected one")
    (image,) = images
    service = next(iter(_services_of(image)), None)
    url = urljoin(base, _whole(service) if service is not None else id_of(image))
    if not is_address(url):
        return IiifPage(name, error=f"expected an address of its image, got {url!r:.80}")
    names = {id_of(image), url, *(_names_of_service(service) if service is not None else ())}
    size = tuple(canvas.get(key) for key in ("width", "height"))
    is_sized = all(isinstance(each, int | float) and each > 0 for each in size)
    return IiifPage(
        name, tuple(sorted(names)), Canvas(id_of(canvas), *size) if is_sized else None, url
    )


def _images_of(canvas: Any) -> Iterator[dict[str, Any]]:
    """The images painted on a canvas, of either version; of a choice, the default."""
    if not isinstance(canvas, dict):
        return
    for annotation in _objects(canvas.get("images")):  # version 2
        yield from _chosen(annotation.get("resource"))
    for page in _objects(canvas.get("items")):
        for annotation in _objects(page.get("items")):
            if annotation.get("motivation", "painting") in ("painting", ["painting"]):
                yield from _chosen(annotation.get("body"))


def _listed(content: Any) -> list[Any]:
    """A list of JSON; empty if it is something else."""
    return content if isinstance(content, list) else []


def _objects(content: Any) -> list[dict[str, Any]]:
    return [each for each in _listed(content) if isinstance(each, dict)]


def _chosen(body: Any) -> Iterator[dict[str, Any]]:
    if isinstance(body, list):
        body = next(iter(body), None)
    if isinstance(body, dict) and type_of(body) in ("oa:Choice", "Choice"):
        body = body.get("default") or next(iter(_listed(body.get("items"))), None)
    if isinstance(body, dict) and type_of(body) in ("dctypes:Image", "Image", ""):
        yield body


def _services_of(image: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The services of the Image API of an image, without others such as logins."""
    services = image.get("service", [])
    for service in services if isinstance(services, list) else [services]:
        told = json.dumps([type_of(service), service]) if isinstance(service, dict) else ""
        if "ImageService" in told or "/image" in told or "image-api" in told:
            yield service


def _whole(service: dict[str, Any]) -> str:
    """The address of the whole image of a service or an info.json."""
    base = id_of(service).rstrip("/")
    told = json.dumps([service.get("@context"), service.get("profile"), type_of(service)])
    if "ImageService3" in told or "image/3" in told:
        return f"{base}/full/max/0/default.jpg"
    quality = "native" if "image-api/1" in told or "image/1" in told else "default"
    return f"{base}/full/full/0/{quality}.jpg"


def _page_at(name: str, url: str) -> IiifPage:
    found = _IMAGE.search(url)
    base = url[: found.start()] if found else url.partition("?")[0]
    return IiifPage(name, _names_of_base(base), None, url)


def _names_of_service(service: dict[str, Any]) -> tuple[str, ...]:
    return _names_of_base(id_of(service).rstrip("/"))


def _names_of_base(base: str) -> tuple[str, ...]:
    """An image's base address, its identifier as a file name, and that without its suffix."""
    last = unquote(base.rpartition("/")[2]).rpartition("/")[2]
    stem = last.rpartition(".")[0] or last
    return base, last, stem
