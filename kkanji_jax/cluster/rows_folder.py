"""The output folder of a collection: its lock, its finished files, its manifest.

`_request.json` has the request, and `_progress.jsonl` has a line for each finished file of rows.
At the end `_manifest.json` replaces both. Readers of Parquet datasets ignore names that begin with
an underscore, so the folder can be opened as a dataset at any time.
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from kkanji_jax.answers.partial_rows import differing_names, hold_rows
from kkanji_jax.answers.tally import Tally
from kkanji_jax.cluster.partition_reader import WORKING
from kkanji_jax.cluster.partitions import Partition
from kkanji_jax.cluster.rows_file import Written
from kkanji_jax.files import is_foreign, naming_in_errors, write_json

VERSION = 1
REQUEST, PROGRESS, MANIFEST, LOCK = "_request.json", "_progress.jsonl", "_manifest.json", "_lock"


class RowsFolder:
    """The folder of rows, held by one process; a context.

    `identity` has everything that the rows depend on, by the name used in messages. ValueError if
    the folder has rows of another request, or other files, or if another process writes it.
    """

    def __init__(self, out: Path, identity: Mapping[str, str]) -> None:
        self.out = out
        self._identity = dict(identity)
        self._done: dict[int, Written] = {}
        self.tally = Tally()  # of all finished files, also those of earlier runs

    def __enter__(self) -> "RowsFolder":
        with naming_in_errors(self.out):
            self._require_own()
            self.out.mkdir(parents=True, exist_ok=True)
        self._lock = hold_rows(self.out / LOCK, self.out)
        with contextlib.ExitStack() as until_begun:
            until_begun.callback(self._lock.close)
            with naming_in_errors(self.out):
                self._begin()
            until_begun.pop_all()  # the lock stays
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # what it still holds is a line whose writing failed
            self._progress.close()
        self._sweep()
        if isinstance(error, KeyboardInterrupt) and self._done:
            print(
                f"the rows of {self.tally.num_images:,} images are in {self.out}: the same command "
                "goes on from there",
                file=sys.stderr,
            )
        self._lock.close()

    def _require_own(self) -> None:
        if not self.out.exists():
            return
        if not self.out.is_dir():
            raise ValueError(f"--out must be a folder, not the file {self.out}")
        names = {path.name for path in self.out.iterdir() if not is_foreign(path.name)}
        if names - {LOCK} and not names & {REQUEST, MANIFEST}:
            raise ValueError(
                f"{self.out} is not empty and holds no rows of predict: give another --out"
            )

    def _begin(self) -> None:
        manifest, request = self.out / MANIFEST, self.out / REQUEST
        lines: list[dict[str, Any]] = []
        begun: Path | None = next((path for path in (manifest, request) if path.exists()), None)
        if begun is not None:
            try:
                content = json.loads(begun.read_text(encoding="utf-8"))
                if content["version"] != VERSION:
                    raise ValueError(f"version {content['version']}, expected {VERSION}")
                self._require_same(content["identity"])
                lines = content.get("files", [])
            except (KeyError, TypeError, json.JSONDecodeError) as err:
                raise ValueError(
                    f"{begun} is damaged ({err}): remove {self.out} to begin anew"
                ) from err
        self._sweep()
        if not lines:
            lines = self._read_progress()
        for line in lines:
            written = Written(**{**line, "tally": Tally(**line["tally"])})
            path = self.out / written.file
            # Files that were removed or truncated since are read again.
            if path.is_file() and path.stat().st_size == written.bytes:
                self._count(written)
        write_json(request, {"version": VERSION, "identity": self._identity})
        with (self.out / f".{PROGRESS}.new").open("w", encoding="utf-8") as file:
            file.writelines(_line(written) for written in self._done.values())
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.out / PROGRESS)
        manifest.unlink(missing_ok=True)
        self._progress = (self.out / PROGRESS).open("a", encoding="utf-8")

    def _require_same(self, identity: Mapping[str, str]) -> None:
        others = differing_names(identity, self._identity)
        if others:
            raise ValueError(
                f"{self.out} holds rows of another {', '.join(others)}: give the command that "
                "began it, or another --out"
            )

    def _read_progress(self) -> list[dict[str, Any]]:
        try:
            text = (self.out / PROGRESS).read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # A kill may leave half a line, whose file is then read again.
        whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
        try:
            return [json.loads(line) for line in whole]
        except json.JSONDecodeError as err:
            raise ValueError(
                f"{self.out / PROGRESS} is damaged ({err}): remove {self.out} to begin anew"
            ) from err

    def has(self, partition: Partition) -> bool:
        """Whether its rows are finished; ValueError if they are of other images."""
        written = self._done.get(partition.number)
        if written is None:
            return False
        if written.digest != partition.digest:
            raise ValueError(
                f"the images are not those of {self.out} any more: some came or went in what "
                f"{written.file} was read from, or before; give another --out"
            )
        return True

    def add(self, written: Written) -> None:
        """Records a finished file of rows."""
        self._count(written)
        with naming_in_errors(self.out / PROGRESS):
            self._progress.write(_line(written))
            self._progress.flush()
            os.fsync(self._progress.fileno())

    def _count(self, written: Written) -> None:
        self._done[written.number] = written
        self.tally = self.tally.plus(written.tally)

    def finish(self, num_partitions: int, passed_over: Mapping[str, int]) -> None:
        """All partitions are done: writes the manifest. ValueError if there were more before."""
        if len(self._done) > num_partitions:
            raise ValueError(
                f"the images are not those of {self.out} any more: there were "
                f"{len(self._done):,} partitions, and are {num_partitions:,}; give another --out"
            )
        files = [_recorded(self._done[number]) for number in sorted(self._done)]
        write_json(
            self.out / MANIFEST,
            {
                "version": VERSION,
                "identity": self._identity,
                "num_images": self.tally.num_images,
                "num_rows": sum(each["num_rows"] for each in files),
                "num_errors": self.tally.num_errors,
                "passed_over": dict(passed_over),
                "files": files,
            },
        )
        (self.out / REQUEST).unlink(missing_ok=True)
        (self.out / PROGRESS).unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Removes what killed workers left: nobody else writes here."""
        for left in self.out.glob(".part-*.unfinished"):
            left.unlink(missing_ok=True)
        shutil.rmtree(self.out / WORKING, ignore_errors=True)


def _recorded(written: Written) -> dict[str, Any]:
    return {**written._asdict(), "tally": written.tally._asdict()}


def _line(written: Written) -> str:
    return json.dumps(_recorded(written)) + "\n"
