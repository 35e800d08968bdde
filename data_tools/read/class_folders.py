"""Lists the images in folders named by code points, in order of their names.

There are three kinds: Kuzushiji-Kanji (kkanji2/ or its tar), any folder of U+XXXX/, and CODH's
character shapes, <book>/characters/U+XXXX/. Files in folders are not opened here.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from data_tools.read import archives
from data_tools.read.decoding import Finding, Unread
from data_tools.read.layouts import KKANJI, codepoint_problem, crop_problem
from kkanji_jax.cli import Report
from kkanji_jax.files import is_foreign, is_plain_text
from kkanji_jax.glyphs.image_files import SUFFIXES

_NO_TEXT = "has a name that is no plain text"
_LINK = "is a link to a folder, which is not followed: put its images into the class folder"


def _refuse(err: OSError) -> NoReturn:
    raise err


def _list_files(folder: Path) -> list[str]:
    """The relative path of every file of a folder, sorted.

    Links to folders are not followed, but listed, with a slash at the end. OSError for a folder
    that cannot be listed: its images would be missing without a word.
    """
    top = str(folder)
    names: list[str] = []
    for inside, folders, files in os.walk(top, onerror=_refuse):
        deeper = inside[len(top) :].replace(os.sep, "/").lstrip("/")
        links = [f"{name}/" for name in folders if os.path.islink(os.path.join(inside, name))]
        names += [f"{deeper}/{name}" for name in files + links] if deeper else files + links
    return sorted(names)


def _iterate_folder(folder: Path, report: Report) -> Iterator[tuple[str, str | None]]:
    """Path inside the source, and on disk, of every file; None for an empty class folder.

    A link to a folder inside a class folder has a slash at the end.
    """
    class_folders = sorted(folder.iterdir())
    for number, class_folder in enumerate(class_folders):
        report("reading kkanji2", number, len(class_folders))
        inside, on_disk = f"{folder.name}/{class_folder.name}", str(class_folder)
        if is_foreign(class_folder.name) or not class_folder.is_dir():
            yield inside, on_disk
            continue
        names = _list_files(class_folder)
        if not names:
            yield inside + "/", None
        for name in names:
            yield f"{inside}/{name}", f"{on_disk}/{name}"
    report("reading kkanji2", len(class_folders), len(class_folders))


def _iterate_tar(path: Path, report: Report) -> Iterator[tuple[str, bytes]]:
    num_bytes, done = path.stat().st_size >> 20, 0
    for name, data in archives.iterate_tar(path):
        done += 512 + -(-len(data) // 512) * 512
        report("reading kkanji.tar (MB)", min(done >> 20, num_bytes - 1), num_bytes)
        yield name, data
    report("reading kkanji.tar (MB)", num_bytes, num_bytes)


def iterate_kkanji(path: Path, report: Report) -> Iterator[Unread | Finding]:
    """Kuzushiji-Kanji, from the folder kkanji2 or the tar of it; ids `kkanji/U+XXXX/<name>`."""
    misnamed: set[str] = set()
    seen: set[str] = set()
    iterate = _iterate_folder if path.is_dir() else _iterate_tar
    for file, content in iterate(path, report):
        folder, _, name = file.removeprefix("kkanji2/").partition("/")
        is_inside = file.startswith("kkanji2/") and bool(folder)
        if content is None:
            yield Finding("empty_class", file, "no file")
            continue
        is_link = name.endswith("/")
        is_taken = is_link or name.lower().endswith(".png")
        if not is_inside or not is_taken or any(map(is_foreign, file.split("/"))):
            yield Finding("ignored", file, "no image of a class folder")
            continue
        if problem := codepoint_problem(folder):
            if folder not in misnamed:
                misnamed.add(folder)
                yield Finding("wrong_name", f"kkanji2/{folder}", problem)
            continue
        sample_id = f"{KKANJI}/{folder}/{name[: -len('.png')]}"
        if is_link:
            yield Finding("unreadable", file, _LINK)
        elif "/" in name:
            yield Finding("unreadable", file, "is in a folder inside its class folder", folder)
        elif not is_plain_text(name):
            yield Finding("wrong_name", file, _NO_TEXT, folder)
        elif sample_id in seen:
            same = f"has the same sample id as another file, {sample_id}"
            yield Finding("unreadable", file, same, folder)
        else:
            seen.add(sample_id)
            yield Unread(sample_id, folder, content, file)


def _name_problem(file: Path, class_folder: Path, book: str) -> str | None:
    """Why a file cannot be a sample, judging by its path, or None."""
    if file.parent != class_folder:
        return "is in a folder inside its class folder"
    if not is_plain_text(file.name):
        return _NO_TEXT
    return crop_problem(file.stem, class_folder.name, book) if book else None


def _is_beside(file: Path, besides: frozenset[str], *, is_link: bool) -> bool:
    """Whether another source has a file; or, of a link to a folder, a file in it."""
    if not besides:
        return False
    path = os.path.abspath(file)
    return any(each.startswith(path + os.sep) for each in besides) if is_link else path in besides


def iterate_images(
    source: str,
    class_folders: list[Path],
    report: Report,
    book: str = "",
    besides: frozenset[str] = frozenset(),
) -> Iterator[Unread | Finding]:
    """Class folders of images in any raster format, each made a 64x64 white-on-black glyph.

    Ids are `<source>/U+XXXX/<file name>`. With `book` the files are CODH's crops of that book,
    whose names must say so, and ids leave out the suffix. Files in `besides`, absolute paths,
    belong to another source.
    """
    what = f"reading {book or source}"
    for number, class_folder in enumerate(class_folders):
        report(what, number, len(class_folders))
        codepoint, inside = class_folder.name, f"{source}/{class_folder.name}"
        where = f"{book}/characters/{codepoint}" if book else inside
        if is_foreign(codepoint) or not class_folder.is_dir():
            yield Finding("ignored", where, "no class folder")
            continue
        if problem := codepoint_problem(codepoint):
            yield Finding("wrong_name", where, problem)
            continue
        names = _list_files(class_folder)
        if not names:
            yield Finding("empty_class", where + "/", "no file")
        seen: set[str] = set()
        for name in names:
            file = class_folder / name
            if _is_beside(file, besides, is_link=name.endswith("/")):
                continue
            is_taken = name.endswith("/") or file.suffix.lower() in SUFFIXES
            if not is_taken or any(map(is_foreign, name.split("/"))):
                yield Finding("ignored", f"{where}/{name}", "no image of a class folder")
                continue
            sample_id = f"{inside}/{file.stem if book else name}"
            problem = _LINK if name.endswith("/") else _name_problem(file, class_folder, book)
            if problem is None and sample_id in seen:
                problem = f"has the same sample id as another file, {sample_id}"
            if problem:
                yield Finding("wrong_name", f"{where}/{name}", problem)
                continue
            seen.add(sample_id)
            yield Unread(sample_id, codepoint, str(file), sample_id, book)
    report(what, len(class_folders), len(class_folders))
