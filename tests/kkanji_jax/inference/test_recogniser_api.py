"""A recogniser in somebody else's program: what it refuses, passed on to other processes."""

import io
import json
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kkanji_jax.inference.recogniser import ImageError, Reading, Recogniser, load

ROOT = Path(__file__).parents[3]


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


GLYPHS = "expected glyphs as an array uint8 [n 64 64], white on black, got "
REFUSED = {
    "r.predict(images(), top_k=1.5)": "expected a whole number for top_k, got 1.5",
    "r.predict(images(), top_k='3')": "expected a whole number for top_k, got '3'",
    "r.predict(images(), top_k=None)": "expected a whole number for top_k, got None",
    "r.predict(images(), top_k=True)": "expected a whole number for top_k, got True",
    "r.predict(images(), top_k=-1)": "expected top_k of at least 1, got -1",
    "r.predict(images(), characters=5)": "expected characters as strings, got int",
    "r.predict(images(), characters=[5])": "expected characters as strings, got int in them",
    "r.predict(images(), characters=[['a']])": "expected characters as strings, got list in them",
    "r.predict(images(), characters=b'a')": "expected characters as strings, got int in them",
    "r.predict(images(), orient=None)": "expected an orient of no or auto, got None",
    "r.predict(images(), orient=['auto'])": "expected an orient of no or auto, got ['auto']",
    "r.predict(images(), on_error=None)": "expected an on_error of raise or row, got None",
    "r.predict_glyphs(glyphs, 1.5)": "expected a whole number for top_k, got 1.5",
    "r.predict_glyphs(glyphs, characters=5)": "expected characters as strings, got int",
    "r.readings_of(r.outputs(glyphs), glyphs, 2.0)": "expected a whole number for top_k, got 2.0",
    "r.readings_of(r.outputs(glyphs), glyphs, characters=5)": "expected characters as strings, "
    "got int",
    "r.readings_of(r.outputs(glyphs), glyphs, characters=[5])": "expected characters as strings, "
    "got int in them",
    "r.predict_glyphs(glyphs[0])": f"{GLYPHS}uint8 of shape (64, 64)",
    "r.predict_glyphs(glyphs[:, :32, :32])": f"{GLYPHS}uint8 of shape (2, 32, 32)",
    "r.predict_glyphs(glyphs[..., None])": f"{GLYPHS}uint8 of shape (2, 64, 64, 1)",
    "r.predict_glyphs(glyphs.astype('float32'))": f"{GLYPHS}float32 of shape (2, 64, 64)",
    "r.predict_glyphs(glyphs > 0)": f"{GLYPHS}bool of shape (2, 64, 64)",
    "r.predict_glyphs(np.zeros((), np.uint8))": f"{GLYPHS}uint8 of shape ()",
    "r.predict_glyphs(list(glyphs))": f"{GLYPHS}list",
    "r.outputs('crops/001.png')": f"{GLYPHS}str",
    "load(5)": "expected the path of a model, got int",
    "load(model, which='newest')": "expected which of best or latest, got 'newest'",
    "load(model, weights=1)": "expected weights ema or raw, got 1",
    "load(model, backend='torch')": "expected a backend of jax or onnx, got 'torch'",
}
RIGHT = [
    "r.predict(glyphs, np.int64(2), characters=(c for c in '春夏秋'))",
    "r.predict_glyphs(glyphs, 2, characters={'春', '夏', '秋'})",
    "r.readings_of(r.outputs(glyphs), glyphs, 2, characters=(c for c in '春夏秋'))",
]
# In a process of its own: here, annotations are checked when a function is called.
ASK = """
import json, sys
import numpy as np
from kkanji_jax.inference.recogniser import load

def images():
    raise AssertionError("an image was read")
    yield

def told(expression):
    try:
        return repr(eval(expression))
    except ValueError as err:
        return f"{type(err).__name__}: {err}"

model, expressions, *files = sys.argv[1:]
r = load(model, backend="onnx")
glyphs = r.glyphs(files)
print(json.dumps([told(expression) for expression in json.loads(expressions)]))
"""


@pytest.fixture(scope="module")
def told(tiny_run, files: list[Path]) -> dict[str, str]:
    """What a program is told that asks these."""
    asked = [*REFUSED, *RIGHT, "r.predict(glyphs, 2, characters='春夏秋')"]
    command = [sys.executable, "-c", ASK, tiny_run.workdir, json.dumps(asked), *files[:2]]
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=True)
    return dict(zip(asked, json.loads(answer.stdout), strict=True))


@pytest.mark.parametrize("asked", REFUSED)
def test_a_wrong_argument_is_a_value_error_in_words_before_an_image_is_read(
    asked: str, told: dict[str, str]
):
    assert told[asked] == f"ValueError: {REFUSED[asked]}"


@pytest.mark.parametrize("asked", RIGHT)
def test_whole_numbers_of_numpy_and_any_row_of_characters_are_right(
    asked: str, told: dict[str, str]
):
    expected = told["r.predict(glyphs, 2, characters='春夏秋')"]
    assert expected.count("Candidate(") == 4
    if "r.predict(" not in asked:  # of glyphs as they are
        assert told[asked].count("Candidate(") == 4
    else:
        assert told[asked] == expected


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
