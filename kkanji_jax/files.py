"""Files: written whole or not at all, digests, files of other programs, the user's cache.

Standard library only: every command imports this module first.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUMS = "SHA256SUMS"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_PLAIN = ("Cc", "Cs", "Zl", "Zp")  # Unicode categories: controls, stray bytes, line breaks
_LEFT_OVER = re.compile(r"\.[^/]*\.[0-9a-f]{16}\.unfinished")
_LEFT_OVER_AGE_S = 24 * 3600.0  # a file that was not written to for so long has no writer
_LEFT_BY_SYSTEMS = ("Thumbs.db", "ehthumbs.db", "desktop.ini", "Desktop.ini", "__MACOSX", "Icon\r")


def is_foreign(name: str) -> bool:
    """Whether a file or folder of this name was left by a system or a tool, never by this project.

    Examples are .DS_Store, ._x, .nfs0001 and a synchroniser's hidden files. They are neither read
    nor counted, and never deleted.
    """
    return name.startswith(".") or name in _LEFT_BY_SYSTEMS


def require_utf8(path: Path) -> None:
    """ValueError for a path with bytes that are not UTF-8, which ArrayRecord and Orbax refuse."""
    if not _is_utf8(str(path)):
        raise ValueError(
            f"{printable(path)} has bytes that are not UTF-8, which the files of a dataset or a "
            "checkpoint cannot be named by: rename it, or name another place"
        )


def is_plain_text(name: str) -> bool:
    """Whether a name has no control character, no line break and no byte that is not UTF-8.

    Spaces of any width are plain: a full-width one is invisible in a message, and common in Japan.
    """
    return not any(unicodedata.category(character) in _NOT_PLAIN for character in name)


def printable(path: Path | str) -> str:
    """A path in characters that can be shown; bytes that are not UTF-8 as escapes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class WriteError(OSError):
    """A file that could not be written: number, reason and name are those of OSError."""

    def __str__(self) -> str:
        return f"cannot write {self.filename}: {self.strerror}"


@contextmanager
def naming_in_errors(path: Path, *unnamed: Path) -> Iterator[None]:
    """Turns a failing write into a WriteError that names `path`, with the number of the failure.

    The error of a full disk names no file. Errors that name another file pass unchanged, unless
    that file is in one of `unnamed`: files and folders of which only the writer knows.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as err:
        if err.filename is not None:
            named = Path(os.fsdecode(err.filename))
            if not any(each == named or each in named.parents for each in unnamed):
                raise
        if err.filename is None and err.errno is None and not _is_of_writing(err):
            raise
        number = err.errno or errno.ENOSPC
        raise WriteError(number, err.strerror or os.strerror(number), str(path)) from err


def _is_of_writing(err: OSError) -> bool:
    """Whether it is NumPy's error for a full disk, which has no number."""
    return "requested and" in str(err) and "written" in str(err)


def file_named(text: str, flag: str) -> Path:
    """The path of a file to be written, from the text that was given for `flag`.

    ValueError if it is empty, or names a folder by its end, `/` or `/.`, which a Path does not
    keep.
    """
    if not text:
        raise ValueError(f"{flag} is empty: expected the name of a file")
    separators = (os.sep, os.altsep or os.sep)
    if text.endswith((*separators, *(f"{each}." for each in separators))):
        raise ValueError(f"{flag} {text} names a folder: expected the name of a file")
    return Path(text)


def require_target(path: Path) -> None:
    """Makes the folders of the file that `path` names, through symbolic links.

    WriteError or IsADirectoryError if `path` cannot name a file: a folder, a link to itself, or a
    name below a file.
    """
    target = Path(os.path.realpath(path))
    if target.is_symlink():
        raise WriteError(errno.ELOOP, "its symbolic links lead to themselves", str(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as err:
        there = next(each for each in target.parents if os.path.lexists(each))
        raise WriteError(errno.ENOTDIR, f"{there} is no folder", str(path)) from err
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder, expected the name of a file", path)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a name to write to; when the block ends, the file appears at `path`.

    Until then, and if the block raises, `path` keeps what it had. Its mode is kept, and if it is a
    symbolic link, the link's target is replaced and not the link. If it is not a file (a pipe, a
    device), it is written to at the end of the block. Missing parent folders are created. The
    temporary name belongs to this process, so two processes that write `path` do not mix: the later
    one's file stays. WriteError names `path`.
    """
    path = Path(path)
    if is_written_through(path):
        with _spooled(path) as spool:
            yield spool
        return
    target = Path(os.path.realpath(path))  # `require_target` refuses what this cannot resolve
    token = secrets.token_hex(8)
    unfinished = target.with_name(f".{target.name[:40]}.{token}.unfinished")
    with naming_in_errors(path, unfinished):
        require_target(path)
        _remove_left_over(target)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        try:
            yield unfinished
            if mode is not None:
                unfinished.chmod(mode)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)


def is_written_through(path: Path) -> bool:
    """Whether `path` is a pipe or a device, or a name for an open file, such as /dev/stdout."""
    if str(path).startswith(("/dev/fd/", "/dev/std", "/proc/")):
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False  # it is not there; or where it would be, nobody may look: that is told later
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _spooled(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kkanji_jax-") as folder:
        spool = Path(folder) / "spool"
        yield spool
        with naming_in_errors(path), spool.open("rb") as file, path.open("wb") as out:
            shutil.copyfileobj(file, out)


def _remove_left_over(target: Path) -> None:
    """Removes temporary files of killed writers of `target` that are older than a day.

    A folder of such a name is a bundle that was not finished, and is left.
    """
    prefix = f".{target.name[:40]}."
    with os.scandir(target.parent) as entries:
        left_over = [each for each in entries if each.name.startswith(prefix)]
    for left in left_over:
        if _LEFT_OVER.fullmatch(left.name):
            try:
                is_old = time.time() - left.stat().st_mtime > _LEFT_OVER_AGE_S
                if is_old and not left.is_dir(follow_symlinks=False):
                    os.unlink(left)
            except FileNotFoundError:
                continue  # its writer was alive, and has finished


def write_json(path: Path, content: object) -> None:
    """Writes JSON so that a kill leaves the old file or the new one.

    Characters are written as they are. Bytes of a path that are not UTF-8 are written as escapes,
    which JSON reads back as the same path.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with written_whole(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def read_json(path: Path, *, having: Collection[str] = ()) -> dict[str, Any]:
    """The JSON object in a file, in UTF-8.

    ValueError names the file if it is damaged, is no object, or lacks one of the names in `having`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as err:  # of JSON and of UTF-8 alike
        raise ValueError(f"{path} is damaged: {err}") from err
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object, got {str(content)[:40]!r}")
    missing = [name for name in having if name not in content]
    if missing:
        raise ValueError(f"{path} lacks {missing[0]!r}: it is of another version, or damaged")
    return content


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Writes SHA256SUMS over all files below `folder`, atomically; its presence ends a save.

    Foreign files are not listed: they may go at any time.
    """
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    listed = sorted(name for name in names if not any(map(is_foreign, name.parts)))
    lines = [
        f"{sha256_of(folder / name)}  {name.as_posix()}\n"
        for name in listed
        if name.as_posix() != SUMS
    ]
    with (
        written_whole(folder / SUMS) as unfinished,
        unfinished.open("w", encoding="utf-8") as file,
    ):
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def check_sums(folder: Path, what: str = "checkpoint") -> list[str]:
    """The names of the files that SHA256SUMS lists, relative to `folder`; all of them are checked.

    Other files are not looked at. ValueError names the first that is missing or has changed; `what`
    says whose it is.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise ValueError(f"{folder} has no {SUMS}: its save did not finish")
    names = []
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, separator, name = line.partition("  ")
        if not separator:
            raise ValueError(f"{sums} is damaged: {line[:80]!r} is no digest and name")
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{what} file {path} is missing")
        if sha256_of(path) != digest:
            raise ValueError(f"{what} file {path} is damaged: its SHA-256 has changed")
        names.append(name)
    return names


def cache_folder() -> Path | None:
    """The folder for data that can be made again: KKANJI_CACHE, or kkanji_jax in the user's cache.

    None with KKANJI_CACHE=off: nothing is kept. The folder may not exist yet.
    """
    named = os.environ.get("KKANJI_CACHE")
    if named:
        return None if named == "off" else Path(named).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "kkanji_jax"
