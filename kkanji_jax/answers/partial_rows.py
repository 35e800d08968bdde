"""Rows that a stop does not lose: they grow in a file beside the one asked for, image by image.

`readings.csv.partial` holds the rows of whole images, and `readings.csv.partial.json` says how many
images these are and which command wrote them. The same command goes on after the last of them.
"""

import contextlib
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from kkanji_jax.answers.row_formats import Render, RowFormat, row_of_json
from kkanji_jax.answers.rows import Row, rows_by_image
from kkanji_jax.answers.tally import Tally
from kkanji_jax.files import naming_in_errors, require_target, write_json, written_whole
from kkanji_jax.inputs.image_input import ImageInput, shown_path
from kkanji_jax.locks import Lock, hold_or_refuse

VERSION = 1
COMMIT_S = 2.0  # what is lost at most when the process is killed without a word


class _Progress(NamedTuple):
    """The images that are done: where their rows end, and a chained digest of which they are."""

    tally: Tally = Tally()
    num_bytes: int = 0
    digest: str = ""


def differing_names(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What two requests for the same rows differ in, by the names that messages use."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def hold_rows(lock: Path, rows: Path) -> Lock:
    """Takes the lock of what `rows` are written to; ValueError names them if another has it."""
    told = f"another process is writing {rows}"
    return hold_or_refuse(lock, told, remedy="wait for it, or give another --out")


class PartialRows:
    """Rows on their way to `out`, a regular file; a context that ends with `out` whole.

    `identity` is all that decides about rows, by name: a partial file of another is refused with
    ValueError. If the block raises, finished images stay in the partial file, which is named on
    standard error. `is_resumed` False begins anew. With `render`, which needs a `form` of JSON
    Lines, `out` holds what that makes of all rows, image by image, and not the rows.
    """

    def __init__(
        self,
        out: Path,
        form: RowFormat,
        identity: Mapping[str, Any],
        *,
        is_resumed: bool = True,
        render: Render | None = None,
    ) -> None:
        self.out, self._form, self._render = out, form, render
        self._target = Path(os.path.realpath(out))
        self.path = self._target.with_name(self._target.name + ".partial")
        self._state_path = self._target.with_name(self._target.name + ".partial.json")
        self._identity = json.loads(json.dumps(dict(identity)))
        self._is_resumed = is_resumed
        self._done = self._committed = self._begun = _Progress()
        self._pending: list[bytes] = []
        self._last_commit_s = 0.0

    @property
    def tally(self) -> Tally:
        """Of all images, those of earlier runs among them."""
        return self._done.tally

    def __enter__(self) -> "PartialRows":
        with naming_in_errors(self.out, self.path, self._state_path):
            require_target(self.out)
            if not self._state_path.exists() and _size(self.path):
                raise ValueError(
                    f"{self.path} is in the way, and is not of this program: move it away"
                )
            self._lock = hold_rows(self.path, self.path)
            with contextlib.ExitStack() as until_begun:
                until_begun.callback(self._lock.close)
                self._done = self._committed = self._begun = self._resumed()
                write_json(self._state_path, self._state())
                self._file = self.path.open("r+b", buffering=0)
                self._file.truncate(self._done.num_bytes)
                self._file.seek(self._done.num_bytes)
                until_begun.pop_all()  # the lock stays
        if not self._done.num_bytes:
            self._pending.append(self._form.head().encode())
            self._done = self._done._replace(num_bytes=len(self._pending[0]))
        self._last_commit_s = time.monotonic()
        return self

    def _resumed(self) -> _Progress:
        """Where to go on; the start if there is nothing to go on from."""
        if not self._is_resumed or not self._state_path.exists() or not _size(self.path):
            return _Progress()
        anew = f"or remove {self.path} to begin anew"
        try:
            state = json.loads(self._state_path.read_text(encoding="utf-8"))
            if state["version"] != VERSION:
                raise ValueError(f"version {state['version']}, expected {VERSION}")
            held = _Progress(Tally(**state["tally"]), state["bytes"], state["digest"])
            identity = state["identity"]
        except (ValueError, KeyError, TypeError) as err:
            raise ValueError(f"{self._state_path} is damaged ({err}): remove it, {anew}") from err
        others = differing_names(identity, self._identity)
        if others:
            raise ValueError(
                f"{self.path} holds {held.tally.num_images:,} images read with another "
                f"{', '.join(others)}: give the command that began it, {anew}"
            )
        if _size(self.path) < held.num_bytes:
            raise ValueError(f"{self.path} is shorter than it was written: remove it to begin anew")
        return held

    def _state(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "identity": self._identity,
            "tally": self._done.tally._asdict(),
            "bytes": self._done.num_bytes,
            "digest": self._done.digest,
        }

    def remaining(self, found: Iterable[ImageInput]) -> Iterator[ImageInput]:
        """What is still to be read; ValueError if what was read before is no longer in front."""
        iterator, digest = iter(found), ""
        for _ in range(self._committed.tally.num_images):
            item = next(iterator, None)
            if item is None:
                break
            digest = _chained(digest, shown_path(item.path), item.id, item.box)
        if digest != self._committed.digest:
            raise ValueError(
                f"the images are not those of {self.path} any more, whose "
                f"{self._committed.tally.num_images:,} are done: some came or went before the "
                "last of them; remove it to begin anew"
            )
        return iterator

    def write(self, rows: Iterable[Row]) -> None:
        """Writes rows as they come, those of one image together."""
        for own in rows_by_image(rows):
            is_first = not self._done.tally.num_images
            parts = [self._form.text_of(row, is_first and not i) for i, row in enumerate(own)]
            encoded = "".join(parts).encode("utf-8", "backslashreplace")
            first = own[0]
            self._pending.append(encoded)
            # In one assignment: an interruption finds all of an image done, or none of it.
            self._done = _Progress(
                self._done.tally.with_image(first),
                self._done.num_bytes + len(encoded),
                _chained(self._done.digest, first.path, first.id, first.box),
            )
            if time.monotonic() - self._last_commit_s > COMMIT_S:
                self._commit()

    def _commit(self) -> None:
        with naming_in_errors(self.out, self.path, self._state_path):
            content = b"".join(self._pending)[: self._done.num_bytes - self._committed.num_bytes]
            self._file.seek(self._committed.num_bytes)
            _write_all(self._file, content)
            os.fsync(self._file.fileno())
            write_json(self._state_path, self._state())
            self._committed, self._pending = self._done, []
            self._last_commit_s = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
            else:
                self._keep(error)
        finally:
            self._file.close()
            self._lock.close()

    def _finish(self) -> None:
        tail = self._form.tail(not self._done.tally.num_images).encode()
        self._pending.append(tail)
        num_bytes = self._done.num_bytes + len(tail)
        self._done = self._done._replace(num_bytes=num_bytes)
        with naming_in_errors(self.out, self.path, self._state_path):
            self._file.seek(self._committed.num_bytes)
            _write_all(self._file, b"".join(self._pending))
            self._file.truncate(num_bytes)
            os.fsync(self._file.fileno())
            if self._render is not None:
                self._write_rendered(self._render)
                self.path.unlink()
            else:
                if self._target.exists():
                    self.path.chmod(stat.S_IMODE(self._target.stat().st_mode))
                self.path.replace(self._target)
            self._state_path.unlink()

    def _write_rendered(self, render: Render) -> None:
        with (
            self.path.open(encoding="utf-8") as rows,
            written_whole(self._target) as unfinished,
            unfinished.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file,
        ):
            file.writelines(render(rows_by_image(map(row_of_json, rows))))

    def _keep(self, error: BaseException | None) -> None:
        """Keeps what is finished, as far as it can be written, and names it."""
        try:
            if not isinstance(error, OSError) and self._done.tally != self._committed.tally:
                self._commit()
        except OSError as err:
            print(f"warning: {err}", file=sys.stderr)
        self._file.truncate(self._committed.num_bytes)
        num_images = self._committed.tally.num_images
        if num_images:
            if isinstance(error, ValueError) and self._committed == self._begun:
                return  # refused, with its own remedy
            print(
                f"the rows of {num_images:,} images are in {self.path}: the same command goes on "
                "from there",
                file=sys.stderr,
            )
        else:
            self.path.unlink()
            self._state_path.unlink(missing_ok=True)


def _write_all(file: Any, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[file.write(view) :]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _chained(digest: str, path: str, name: str, box: tuple[int, ...] | None) -> str:
    said = json.dumps([digest, path, name, box])
    return hashlib.sha256(said.encode()).hexdigest()
