"""A scratch file for pixels that need not be in memory, read back one image at a time."""

import os
import tempfile
import weakref
from pathlib import Path

LARGE, SMALL = 64 * 64, 28 * 28  # bytes of an image
_BUFFER_BYTES = 2**26  # so that a small source never touches the disk


class StoredPixels:
    """The pixels of one image in a PixelStore; equal to others with the same bytes."""

    __slots__ = ("_num_bytes", "_offset", "_store")

    def __init__(self, store: "PixelStore", offset: int, num_bytes: int) -> None:
        self._store, self._offset, self._num_bytes = store, offset, num_bytes

    def read(self) -> bytes:
        """The bytes, from the disk."""
        return self._store.read(self._offset, self._num_bytes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPixels) and self.read() == other.read()

    def __hash__(self) -> int:
        return hash(self.read())


class PixelStore:
    """A scratch file in `folder`, or in TMPDIR.

    It has no name, so it disappears with the process, however that ends. It takes 784 bytes for
    each image of 28x28 and 4,096 for each of 64x64.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.gettempdir())
        with tempfile.TemporaryFile(dir=folder) as file:
            self._descriptor = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._descriptor)
        self._num_written = 0
        self._buffer = bytearray()

    def put(self, pixels: bytes) -> StoredPixels:
        """Stores one image, 64x64 or 28x28; OSError names the folder when the disk is full."""
        if len(pixels) not in (LARGE, SMALL):
            raise ValueError(f"expected {LARGE} or {SMALL} bytes of pixels, got {len(pixels)}")
        offset = self._num_written + len(self._buffer)
        self._buffer += pixels
        if len(self._buffer) >= _BUFFER_BYTES:
            self._flush()
        # Not len(pixels), which would make a new number object for each of millions of images.
        return StoredPixels(self, offset, LARGE if len(pixels) == LARGE else SMALL)

    def read(self, offset: int, num_bytes: int) -> bytes:
        """The bytes of an image that was stored."""
        if offset >= self._num_written:  # images are written whole: none is half in the buffer
            start = offset - self._num_written
            return bytes(self._buffer[start : start + num_bytes])
        data = os.pread(self._descriptor, num_bytes, offset)
        if len(data) != num_bytes:
            raise OSError(f"the scratch file of pixels in {self.folder} was truncated meanwhile")
        return data

    def _flush(self) -> None:
        try:
            done = 0
            while done < len(self._buffer):
                with memoryview(self._buffer) as view:
                    done += os.pwrite(self._descriptor, view[done:], self._num_written + done)
        except OSError as err:
            raise OSError(
                f"cannot keep pixels in a scratch file in {self.folder}: {err.strerror}: "
                "it takes 4,096 bytes an image; make room there, or build elsewhere"
            ) from err
        self._num_written += done
        self._buffer.clear()
