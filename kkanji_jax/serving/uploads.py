"""The images in the body of a request: one as it is, several as files of a form, or JSON."""

import base64
import binascii
import codecs
import io
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from kkanji_jax.glyphs.image_files import open_image
from kkanji_jax.inputs.box_crops import crops_of
from kkanji_jax.inputs.image_input import STANDARD_INPUT, ImageInput
from kkanji_jax.pages.box import FARTHEST_PX, Box
from kkanji_jax.serving.limits import Limits, Refusal

_EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]*)", re.IGNORECASE)
NO_BOX = "`boxes` is empty: leave it out to read the image as one character"
FORM, JSON, BYTES = "multipart/form-data", "application/json", "application/octet-stream"
Pixels = Annotated[float, Field(ge=-FARTHEST_PX, le=FARTHEST_PX, allow_inf_nan=False)]


class PostedBox(BaseModel):
    """A rectangle on a page, in pixels from the upright page's top left corner."""

    model_config = ConfigDict(extra="forbid")

    x: Pixels
    y: Pixels
    w: Pixels
    h: Pixels
    id: Annotated[str, Field(description="Comes back in the rows as it is.")] = ""


class PostedImage(BaseModel):
    """An image of one character, or with `boxes` a page of which the boxes are read."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[
        str | None,
        Field(description="What the rows call it. Left out: `1`, `2`, ... by its place."),
    ] = None
    content: Annotated[str, Field(description="The file's bytes in base64.")]
    boxes: list[PostedBox] | None = None


class PostedImages(BaseModel):
    """The body of a request in JSON."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[PostedImage], Field(min_length=1)]


class Upload(NamedTuple):
    """One file of a request: an image, or a page if it has boxes."""

    path: str
    content: bytes
    boxes: tuple[Box, ...] | None = None

    @property
    def name(self) -> str:
        """Its name in error messages."""
        return "the body" if self.path == STANDARD_INPUT else self.path

    def inputs(self) -> Iterator[ImageInput]:
        """What predict reads of such a file: the image, or the crops of the page."""
        if self.boxes == ():
            return iter((ImageInput(self.path, NO_BOX),))
        page = ImageInput(self.path, image=self._stream())
        return iter((page,)) if self.boxes is None else crops_of((page,), self.boxes)

    @property
    def num_images(self) -> int:
        """The number of rows of rank 1; a page without boxes has one, with an error."""
        return max(len(self.boxes or ()), 1)

    def measured(self) -> tuple[int, int] | None:
        """Width and height that the file declares; None if it cannot be read."""
        try:
            # Of any size: `check` says how many pixels are too many.
            with open_image(self._stream(), self.name, sys.maxsize) as opened:
                return opened.size
        except (ValueError, OSError):
            return None  # the row of this image, or the answer, will say what is wrong

    def _stream(self) -> io.BytesIO:
        stream = io.BytesIO(self.content)
        stream.name = self.name  # pyright: ignore[reportAttributeAccessIssue]
        return stream


def uploads_of(body: bytes, content_type: str, limits: Limits) -> list[Upload]:
    """The files of a body that is within the limit of bytes, at least one.

    Refusal 400 for a body that is not what `content_type` says, 415 for another type, 422 for JSON
    that lacks something, 413 for too many images or pixels. A file that is not an image is not
    refused.
    """
    if not body:
        raise Refusal(400, "the request has no body: post an image")
    kind, told = parse_options_header(content_type)
    name = kind.decode("latin-1")
    if not name or name == BYTES or name.startswith("image/"):
        uploads = [Upload(STANDARD_INPUT, body)]
    elif name == FORM:
        uploads = _of_form(body, told.get(b"boundary", b""), limits)
    elif name == JSON:
        uploads = _of_json(body, limits)
    else:
        raise Refusal(
            415,
            f"expected a Content-Type of image/..., {BYTES}, {FORM} or {JSON}, got {name[:100]}; "
            "with curl: -F file=@crop.jpg",
        )
    check(uploads, limits)
    return uploads


def check(uploads: Sequence[Upload], limits: Limits) -> None:
    """Refusal 413 if there are more images or pixels than allowed, before any is decoded."""
    _require_few(sum(one.num_images for one in uploads), limits)
    num_pixels = num_box_pixels = 0
    for upload in uploads:
        width, height = upload.measured() or (0, 0)
        if upload.boxes is None and width * height > limits.max_pixels:
            raise Refusal(
                413,
                f"expected at most {limits.max_pixels} pixels, {upload.name} has "
                f"{width} x {height}",
            )
        num_pixels += width * height
        for box in upload.boxes or ():
            # At most the page: it may lie on its side, so its edges are not known yet.
            num_box_pixels += min(max(box.width, 0) * max(box.height, 0), width * height)
    for what, total in (("images", num_pixels), ("boxes", num_box_pixels)):
        if total > limits.max_request_pixels:
            raise Refusal(
                413,
                f"expected at most {limits.max_request_pixels} pixels in the {what} of a request, "
                f"got {total}: make them smaller, or post them apart",
            )


def _require_few(num_images: int, limits: Limits) -> None:
    if num_images > limits.max_images:
        raise Refusal(
            413,
            f"expected at most {limits.max_images} images or boxes in a request, got {num_images}: "
            "post them apart",
        )


def one_line(err: ValidationError) -> str:
    """The first error and its place, without the content that was sent."""
    first, *others = err.errors(include_url=False, include_context=False, include_input=False)
    return validation_line(first, len(others))


def validation_line(first: Any, num_others: int) -> str:
    """One line with pydantic's first error, and the number of other errors."""
    where = ".".join(str(part) for part in first["loc"] if part not in ("query", "body"))
    more = f" (and {num_others} more)" if num_others else ""
    return f"{where}: {first['msg']}{more}" if where else f"{first['msg']}{more}"


def _of_json(body: bytes, limits: Limits) -> list[Upload]:
    try:
        content = from_json(body.removeprefix(codecs.BOM_UTF8))
    except ValueError as err:
        raise Refusal(400, f"Invalid JSON: {err}") from err
    _check_counts(content, limits)
    try:
        posted = PostedImages.model_validate(content)
    except ValidationError as err:
        raise Refusal(422, one_line(err)) from err
    uploads = []
    for number, image in enumerate(posted.images):
        where = f"images.{number}.content"
        try:
            content = base64.b64decode("".join(image.content.split()), validate=True)
        except (binascii.Error, ValueError) as err:
            raise Refusal(422, f"{where}: expected base64, {err}") from err
        if not content:
            raise Refusal(422, f"{where}: it is empty")
        boxes = None
        if image.boxes is not None:
            sides = ((one, map(round, (one.x, one.y, one.w, one.h))) for one in image.boxes)
            boxes = tuple(Box(*places, id=one.id) for one, places in sides)
        path = str(number + 1) if image.path is None else image.path
        uploads.append(Upload(path, content, boxes))
    return uploads


def _check_counts(content: Any, limits: Limits) -> None:
    """Refusal of more images, boxes or fields than allowed.

    Validation keeps an error for each of them; those of one body could take gigabytes.
    """
    images = _listed(_fields_of(content, "", PostedImages).get("images"))
    _require_few(len(images), limits)
    boxes_of = [
        _listed(_fields_of(image, f"images.{number}.", PostedImage).get("boxes"))
        for number, image in enumerate(images)
    ]
    _require_few(sum(max(len(boxes), 1) for boxes in boxes_of), limits)
    for number, boxes in enumerate(boxes_of):
        for place, box in enumerate(boxes):
            _fields_of(box, f"images.{number}.boxes.{place}.", PostedBox)


def _listed(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []  # validation says what else it is


def _fields_of(content: Any, where: str, model: type[BaseModel]) -> dict[str, Any]:
    """An object of JSON; Refusal for anything else, or for a field that `model` does not have."""
    if not isinstance(content, dict):
        raise Refusal(422, f"{where.rstrip('.') or 'the body'}: expected a JSON object")
    for name in content:
        if name not in model.model_fields:
            known = ", ".join(model.model_fields)
            raise Refusal(422, f"{where}{name[:100]}: there is no such field, expected {known}")
    return content


class _Form:
    """The files of a form, as its parser finds them; more than `max_files` are refused."""

    def __init__(self, max_files: int) -> None:
        self.uploads: list[Upload] = []
        self.is_whole = False
        self._max_files = max_files
        self._name = self._value = self._disposition = b""
        self._parts: list[bytes] = []
        self._size = 0

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_part_data": lambda data, start, end: self._parts.append(data[start:end]),
            "on_part_end": self._end,
            "on_header_field": self._take_name,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name = self._value = self._disposition = b""
        self._parts = []

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _end(self) -> None:
        _, told = parse_options_header(self._disposition)
        field = told.get(b"name", b"").decode("utf-8", "backslashreplace")
        name = told.get(b"filename", _extended_name(self._disposition))
        if name is None:
            raise Refusal(422, f"expected files in the form, {field[:100]!r} is none")
        if len(self.uploads) == self._max_files:
            raise Refusal(
                413, f"expected at most {self._max_files} images in a request: post them apart"
            )
        path = name.decode("utf-8", "backslashreplace")
        self.uploads.append(Upload(path, b"".join(self._parts)))
        self._parts = []

    def _finish(self) -> None:
        self.is_whole = True


def _extended_name(disposition: bytes) -> bytes | None:
    """The name of a file that is given in RFC 5987's form alone, as Python's requests may do.

    Forms must not have it (RFC 7578, 4.2), but names that are not ASCII come so.
    """
    found = _EXTENDED_NAME.search(disposition)
    return None if found is None else unquote_to_bytes(found[1])


def _of_form(body: bytes, boundary: bytes, limits: Limits) -> list[Upload]:
    if not boundary:
        raise Refusal(400, f"{FORM} without a boundary in its Content-Type")
    form = _Form(limits.max_images)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as err:
        raise Refusal(400, f"the form is damaged: {err}") from err
    if not form.is_whole:
        raise Refusal(400, "the form is damaged: it ends before its last boundary")
    if not form.uploads:
        raise Refusal(422, "the form has no file: post at least one image")
    return form.uploads
