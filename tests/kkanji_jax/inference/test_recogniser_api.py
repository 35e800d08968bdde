"""A recogniser in somebody else's program: what it refuses, passed on to other processes."""

import io
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inference.recogniser import ImageError, Reading, Recogniser, load


@pytest.fixture(scope="module")
def recogniser(tiny_run) -> Recogniser:
    return load(tiny_run.workdir, backend="onnx")


@pytest.fixture(scope="module")
def files(tiny_run) -> list[Path]:
    return sorted(tiny_run.source.rglob("*.png"))[:3]


def bad_images(folder: Path) -> dict[str, Any]:
    (folder / "broken.png").write_text("no image")
    return {
        "got int": 3,
        "got NoneType": None,
        "got bytes": b"\x89PNG",
        "got dict": {"a": 1},
        "got BufferedReader": (folder / "broken.png").open("rb"),
        "is a folder": folder,
        "No such file or directory": folder / "gone.png",
        "cannot read": folder / "broken.png",
        "cannot read this stream": io.BytesIO(b"no image"),
        "got shape (7,)": np.zeros(7, np.uint8),
        "got shape (0, 5)": np.zeros((0, 5), np.uint8),
        "got <U1": np.array([["a"]]),
        "null": "a\0b.png",
    }


def test_what_is_no_image_is_a_value_error_that_says_so(recogniser: Recogniser, tmp_path: Path):
    for expected, image in bad_images(tmp_path).items():
        for given in (image, [image]) if not isinstance(image, np.ndarray) else ([image],):
            with pytest.raises(ImageError) as told:
                recogniser.predict(given)
            assert isinstance(told.value, ValueError) and expected in str(told.value), expected
            assert told.value.number == 0 and told.value.image is image
        with pytest.raises(ImageError):
            recogniser.embed([image])
        if isinstance(image, io.BufferedReader):
            image.close()


def test_each_image_gives_one_reading_or_one_error(
    recogniser: Recogniser, files: list[Path], tmp_path: Path
):
    bad = list(bad_images(tmp_path).values())
    mixed: list[Any] = [files[0], *bad, files[1], bad[0], Image.open(files[2])]
    told = recogniser.predict(mixed, on_error="row")
    assert [isinstance(answer, ImageError) for answer in told] == [
        image not in (files[0], files[1]) and not isinstance(image, Image.Image)
        if not isinstance(image, np.ndarray)
        else True
        for image in mixed
    ]
    expected = recogniser.predict(files)
    assert [answer for answer in told if isinstance(answer, Reading)] == expected
    for number, answer in enumerate(told):
        if isinstance(answer, ImageError):
            assert answer.number == number and f"(image {number})" in str(answer)
    assert all(isinstance(a, ImageError) for a in recogniser.predict(bad, on_error="row"))
    assert recogniser.predict([], on_error="row") == []
    with pytest.raises(ImageError, match="got int .image 1."):
        recogniser.predict([files[0], 3, None])  # pyright: ignore
    with pytest.raises(ValueError, match="raise or row"):
        recogniser.predict(files, on_error="ignore")  # pyright: ignore
    bad[4].close()


def test_readings_and_errors_can_be_pickled(recogniser: Recogniser, files: list[Path]):
    (good, bad) = recogniser.predict([files[0], "gone.png"], on_error="row")
    assert pickle.loads(pickle.dumps(good)) == good
    again = pickle.loads(pickle.dumps(bad))
    assert (str(again), again.number, again.image) == (str(bad), 1, "gone.png")


@pytest.mark.parametrize("backend", ["onnx", "jax"])
def test_a_pickled_recogniser_reads_alike(backend: str, tiny_run, files: list[Path]):
    recogniser = load(tiny_run.workdir, backend=backend)
    again = pickle.loads(pickle.dumps(recogniser))
    assert again.predict(files) == recogniser.predict(files)
    assert again.digest == recogniser.digest


def _read(recogniser: Recogniser, files: list[Path], answers: Any) -> None:
    try:
        answers.put(recogniser.predict(files))
    except ValueError as err:
        answers.put(str(err))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*")  # that it is dangerous is what is told in words
def test_other_processes_are_served_or_told(method: str, recogniser: Recogniser, files: list[Path]):
    expected = recogniser.predict(files)
    context = multiprocessing.get_context(method)
    answers = context.Queue()
    process = context.Process(  # pyright: ignore[reportAttributeAccessIssue]
        target=_read, args=(recogniser, files, answers)
    )
    process.start()
    told = answers.get(timeout=120)
    process.join(60)
    if method == "spawn":
        assert told == expected
    else:
        assert "of which this is a fork" in told and "spawn" in told
