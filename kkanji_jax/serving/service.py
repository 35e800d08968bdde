"""A recogniser that answers many requests at once: bodies in, rows out."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from starlette.requests import ClientDisconnect, Request

from kkanji_jax.answers.row_formats import RowFormat, write_rows
from kkanji_jax.answers.rows import (
    Row,
    RowOptions,
    rows_of_images,
    with_turns,
)
from kkanji_jax.data.class_index import codepoint_of
from kkanji_jax.inference.orientation import turned_glyphs
from kkanji_jax.inference.recogniser import Recogniser
from kkanji_jax.inputs.decoding import DecodedImage, decode_image
from kkanji_jax.serving.batching import Batcher, Outputs
from kkanji_jax.serving.limits import Limits, Refusal, too_busy
from kkanji_jax.serving.metrics import Metrics
from kkanji_jax.serving.options import RequestOptions, row_options
from kkanji_jax.serving.uploads import Upload, uploads_of
from kkanji_jax.workers import num_allowed_cores

CLIENT_GONE = 499  # no status of HTTP: nobody sees it but the metrics
MEDIA_TYPES = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "text": "text/plain; charset=utf-8",
}


class WrittenRows(NamedTuple):
    """The rows of a request as text, and the requested characters that the model lacks."""

    content: bytes
    media_type: str
    lacking: tuple[str, ...]


class Service:
    """Answers requests with the recogniser that `load` returns, within `limits`.

    `load` is called in a thread when `running` is entered; until it has returned, requests are
    refused with 503. If it raises, `failure` is the error, and `on_failure` is called. Files are
    decoded in as many threads as there are cores. The network has a thread of its own. So have
    short tasks, so that they do not wait behind long ones.
    """

    def __init__(
        self,
        load: Callable[[], Recogniser],
        limits: Limits,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.recogniser: Recogniser | None = None
        self.failure: BaseException | None = None
        self._load, self._on_failure = load, on_failure
        self._decoders: ThreadPoolExecutor | None = None
        self._quick: ThreadPoolExecutor | None = None
        self._batcher: Batcher | None = None

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Loads the model and answers; the block must not end before the last answer is sent."""
        self._decoders = ThreadPoolExecutor(num_allowed_cores(), "decoder")
        self._quick = ThreadPoolExecutor(1, "quick")
        self._batcher = Batcher(
            self._outputs,
            batch_size=self.limits.batch_size,
            wait_s=self.limits.batch_wait_ms / 1000,
            on_batch=self.metrics.add_batch,
        )
        tasks = [asyncio.create_task(self._start()), asyncio.create_task(self._batcher.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for pool in (self._decoders, self._quick):
                pool.shutdown(wait=False, cancel_futures=True)

    async def _start(self) -> None:
        loading = asyncio.get_running_loop().run_in_executor(None, self._load_and_run_once)
        await asyncio.wait([loading])
        self.failure = loading.exception()
        if self.failure is not None:
            self._on_failure()
            return
        self.recogniser = loading.result()
        self.metrics.is_ready = True

    def _load_and_run_once(self) -> Recogniser:
        recogniser = self._load()
        recogniser.outputs(np.zeros((1, 64, 64), np.uint8))  # what is compiled, is compiled now
        return recogniser

    def _outputs(self, glyphs: np.ndarray) -> Outputs:
        assert self.recogniser is not None
        return self.recogniser.outputs(glyphs)

    async def answer(self, request: Request, options: RequestOptions) -> WrittenRows:
        """The rows of a request, the same as those of predict; Refusal says why there are none."""
        try:
            return await self._answer(request, options)
        except ClientDisconnect as err:
            raise Refusal(CLIENT_GONE, "the client went away") from err

    async def _answer(self, request: Request, options: RequestOptions) -> WrittenRows:
        if self.recogniser is None:
            raise Refusal(503, "the model is being loaded", {"Retry-After": "1"})
        self._require_room(1)
        rows, characters = row_options(options, self.recogniser.class_index)
        async with self._body_of(request) as body:
            told = request.headers.get("content-type", "")
            in_pool = asyncio.get_running_loop().run_in_executor
            uploads = await in_pool(self._quick, uploads_of, body, told, self.limits)
            num_images = sum(one.num_images for one in uploads)
            self._require_room(num_images)
            self.metrics.num_queued += num_images
            try:
                decoded, outputs = await self._read(uploads, rows)
                answered = await in_pool(self._quick, self._rows_of, decoded, outputs, rows)
            finally:
                self.metrics.num_queued -= num_images
        for row in answered:
            if row.is_first:
                self.metrics.images["error" if row.error else row.verdict or "none"] += 1
        content = _written(answered, RowFormat(options.format))
        lacking = tuple(map(codepoint_of, characters.lacking))
        return WrittenRows(content, MEDIA_TYPES[options.format], lacking)

    def _require_room(self, num_images: int) -> None:
        if self.metrics.num_queued + num_images > self.limits.max_queue:
            raise too_busy(f"{self.metrics.num_queued} images are waiting")

    @contextlib.asynccontextmanager
    async def _body_of(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body; Refusal if it is too long, or arrives too slowly."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "expected a body without Content-Encoding")
        declared = request.headers.get("content-length", "0")
        if int(declared) > self.limits.max_bytes:
            raise self._too_long(declared)
        chunks: list[bytes] = []
        try:
            await self._receive(request, chunks)
            chunks[:] = [b"".join(chunks)]  # in memory once, as it is counted
            yield chunks[0]
        finally:
            self.metrics.num_held_bytes -= sum(map(len, chunks))

    async def _receive(self, request: Request, chunks: list[bytes]) -> None:
        num_bytes, max_s = 0, self.limits.body_timeout_s
        try:
            async with asyncio.timeout(max_s):
                async for chunk in request.stream():
                    num_bytes += len(chunk)
                    if num_bytes > self.limits.max_bytes:
                        raise self._too_long("more")
                    if self.metrics.num_held_bytes + len(chunk) > self.limits.max_held_bytes:
                        raise too_busy("other requests fill the memory")
                    chunks.append(chunk)
                    self.metrics.num_held_bytes += len(chunk)
        except TimeoutError as err:
            line = f"expected the whole body within {max_s:g} s"
            raise Refusal(408, line, {"Connection": "close"}) from err

    def _too_long(self, told: str) -> Refusal:
        most = self.limits.max_bytes
        return Refusal(
            413,
            f"expected at most {most} bytes, the request has {told}: post the images separately",
        )

    async def _read(
        self, uploads: list[Upload], options: RowOptions
    ) -> tuple[list[DecodedImage], tuple[np.ndarray, ...] | None]:
        """What `rows_of_images` takes. Refusal 422 if the only file cannot be read."""
        assert self._batcher is not None
        in_pool = asyncio.get_running_loop().run_in_executor
        with self._batcher.coming():
            # Each file in one thread, so that there are never more pages in memory than threads.
            work = [in_pool(self._decoders, _decode, one, options.is_ink_bright) for one in uploads]
            decoded = [image for images in await asyncio.gather(*work) for image in images]
        if len(uploads) == 1 and len(decoded) == 1:
            only = decoded[0]
            if only.error and only.found.box is None:
                raise Refusal(422, only.error)
        glyphs = [image.glyph for image in decoded if not image.error]
        if not glyphs:
            return decoded, None
        stacked = np.stack(glyphs)
        outputs = await self._batcher.outputs(stacked)
        if options.orient == "no":
            return decoded, (stacked, *outputs)
        assert self.recogniser is not None
        is_read = [not image.note.trouble for image in decoded if image.note is not None]
        turned = turned_glyphs(stacked, is_read)
        turned_outputs = outputs
        if turned.places.size:
            turned_outputs = await self._batcher.outputs(turned.glyphs)
        found = self.recogniser.surest_turns(stacked, outputs, turned, turned_outputs)
        return with_turns(decoded, found)

    def _rows_of(
        self,
        decoded: list[DecodedImage],
        outputs: tuple[np.ndarray, ...] | None,
        options: RowOptions,
    ) -> list[Row]:
        assert self.recogniser is not None
        return list(rows_of_images(self.recogniser, decoded, outputs, options))


def _written(rows: list[Row], form: RowFormat) -> bytes:
    text = io.StringIO()
    write_rows(rows, text, form)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _decode(upload: Upload, is_ink_bright: bool | None) -> list[DecodedImage]:
    return [decode_image(item, is_ink_bright) for item in upload.inputs()]
