"""CODH's files: addresses, sizes, digests, and the licence."""

import hashlib
from pathlib import Path
from typing import NamedTuple

LICENCE = "CC BY-SA 4.0"
ATTRIBUTION = (
    '"KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" '
    "(created by NIJL and others), doi:10.20676/00000341"
)
PAGE_URL = "http://codh.rois.ac.jp/kmnist/"
BASE_URL = "http://codh.rois.ac.jp/kmnist/dataset/"


class Archive(NamedTuple):
    """One published file; `path` is relative to BASE_URL, digests are hex, None where unknown."""

    path: str
    num_bytes: int
    md5: str | None
    sha256: str | None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


# The SHA-256 of kkanji.tar is from one public source; the others were checked on the files.
ARCHIVES = (
    Archive(
        "kkanji/kkanji.tar",
        324290560,
        None,
        "6c65024b7b79de6661a049c89decfddae8bb908f71fcd7fdf1bd9a7f220a1cda",
    ),
    Archive(
        "k49/k49-train-imgs.npz",
        66117696,
        "7ac088b20481cf51dcd01ceaab89d821",
        "1c42adc463ed8efe598cf002f6ecafbca6d8c38f0551f7a35e0b23755fca1c8d",
    ),
    Archive(
        "k49/k49-train-labels.npz",
        164485,
        "44a8e1b893f81e63ff38d73cad420f7a",
        "fbfef4750ce9aa70b6072f0bca7daa9e80e2d79b379d5ae923265a63396260e4",
    ),
    Archive(
        "k49/k49-test-imgs.npz",
        10971201,
        "d352e201d846ce6b94f42c990966f374",
        "1de2476bb29ed1a12a2424e6724349f7519f6f39d112848aea6aa9c21eeaf594",
    ),
    Archive(
        "k49/k49-test-labels.npz",
        27450,
        "4da6f7a62e67a832d5eb1bd85c5ee448",
        "299be30ea32c2cc69318f5a5a579ffbffb0a6a1ccff134fb0ca834cd525ad6af",
    ),
    Archive("k49/k49_classmap.csv", 697, "f7d0d0391f68bdf0fe4cf160ceb85753", None),
    Archive(
        "kmnist/kmnist-train-imgs.npz",
        18384171,
        "a183fbc01ed9a345513b145673d3d0bb",
        "11d69e17c8fd294905864aef177fd10c2185e5a3655f4da03d72ea5a64c17a72",
    ),
    Archive(
        "kmnist/kmnist-train-labels.npz",
        29700,
        "b0e1d240e8afec72b50437fc3bc5908a",
        "a325c877035602cb9b9ba54f4194a2a1b5f718026a463db5b5e0cdc124c03720",
    ),
    Archive(
        "kmnist/kmnist-test-imgs.npz",
        3079479,
        "dace6de62ca8b90843cc45366337d02e",
        "692d824896bec8f3c357ebf7a0fe904ed67ac632ce953d0b58f7fbef7bb27d87",
    ),
    Archive(
        "kmnist/kmnist-test-labels.npz",
        5304,
        "3ae489a79983d0fe386152684e3b5412",
        "660f13a4705431ea2a6391c41ecbe384cd0d932c595a101ec4f3b8989e785046",
    ),
    Archive("kmnist/kmnist_classmap.csv", 151, "899202f6e8dc29a321ac210a03d0f2f1", None),
    Archive(
        "kmnist/train-images-idx3-ubyte.gz", 18165135, "bdb82020997e1d708af4cf47b453dcf7", None
    ),
    Archive("kmnist/train-labels-idx1-ubyte.gz", 29497, "e144d726b3acfaa3e44228e80efcd344", None),
    Archive("kmnist/t10k-images-idx3-ubyte.gz", 3041136, "5c965bf0a639b31b8f53240b1b52f4d7", None),
    Archive("kmnist/t10k-labels-idx1-ubyte.gz", 5120, "7320c461ea6c1c855c0b718fb2a4b134", None),
)


def problem_of(path: Path, archive: Archive) -> str | None:
    """How a file differs from the published one (bytes, then every known digest), or None."""
    num_bytes = path.stat().st_size
    if num_bytes != archive.num_bytes:
        return f"has {num_bytes} bytes, not {archive.num_bytes}"
    for kind, expected in (("sha256", archive.sha256), ("md5", archive.md5)):
        if expected is not None:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, kind).hexdigest()
            if found != expected:
                return f"has the {kind} {found}, not {expected}"
    return None


def is_published(path: Path) -> bool | None:
    """Whether a file is identical to the one of its name in ARCHIVES; None if there is none."""
    for archive in ARCHIVES:
        if archive.name == path.name:
            return problem_of(path, archive) is None
    return None
