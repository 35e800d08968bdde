"""The trainer's command line: a config is found, fields are set and unset, all of them are told."""

from pathlib import Path

import pytest

from kkanji_jax.config import FIELDS, value_of
from kkanji_jax.training.flags import UsageError, default_workdir, find_config, help_text, parse

# ml_collections reads a config file by a method of importlib that Python 3.15 will not have.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
CONFIG = """
from kkanji_jax.config import default_config

def get_config(variant="full"):
    config = default_config()
    config.data.per_class = 100
    config.optim.grad_clip_norm = 1.0
    config.init_from = "runs/a"
    return config
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A config that sets fields which may be unset."""
    path = tmp_path / "own.py"
    path.write_text(CONFIG)
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], 100),
        (["--config.data.per_class=None"], None),
        (["--config.data.per_class", "None"], None),
        (["--config.data.per_class=None", "--config.data.per_class=7"], 7),
        (["--config.data.per_class=7", "--config.data.per_class=None"], None),
    ],
)
def test_a_field_that_a_config_file_set_can_be_unset_and_the_last_word_counts(
    words: list[str], expected: int | None, config_file: Path
):
    config = parse([f"--config={config_file}", *words]).config
    assert config.data.per_class == expected
    assert config.optim.grad_clip_norm == 1.0, "no other field changes"


def test_every_field_that_may_be_unset_can_be_unset(config_file: Path):
    unset = [path for path, field in FIELDS.items() if field.may_be_unset]
    words = [f"--config.{path}=None" for path in unset]
    config = parse(["--config", str(config_file), *words]).config
    assert [value_of(config, path) for path in unset] == [None] * len(unset)


def test_a_field_that_must_be_set_cannot_be_unset():
    with pytest.raises(UsageError, match=r"--config\.seed cannot be None: it must be set"):
        parse(["--config=configs/b0.py", "--config.seed=None"])


def test_values_reach_their_fields_whatever_stands_between(config_file: Path):
    command = parse(
        [
            "--config.epochs=3",
            "--workdir",
            "w",
            "--config",
            str(config_file),
            "--config.seed",
            "5",
            "--config.tensorboard=True",
        ]
    )
    config = command.config
    assert (config.epochs, config.seed, config.tensorboard) == (3.0, 5, True)
    assert command.workdir == Path("w")


def test_a_config_is_found_away_from_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("configs/b0.py").is_file() and find_config("b0.py").is_file()
    command = parse(["--config", "configs/b0.py:smoke"])
    assert command.config.model.variant == "nano"
    assert command.workdir == Path("runs/b0-smoke")


def test_a_file_of_the_user_comes_before_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "b0.py").write_text(CONFIG)
    assert parse(["--config", "configs/b0.py"]).config.data.per_class == 100


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("configs/b10.py", r"no config file configs/b10\.py; did you mean configs/b1"),
        ("my/b0.py", r"no config file my/b0\.py.*with the package come .*configs/b0\.py"),
        ("", "no config file"),
    ],
)
def test_a_config_that_is_not_there_is_refused_with_those_that_are(name: str, expected: str):
    with pytest.raises(UsageError, match=expected):
        find_config(name)


@pytest.mark.parametrize("words", [["--config"], [], ["--workdir=x"]])
def test_a_config_is_wanted(words: list[str]):
    with pytest.raises(UsageError, match=r"e\.g\. --config configs/b0\.py"):
        parse(words)


def test_the_workdir_is_named_by_config_and_variant():
    assert default_workdir("x/configs/b0.py:cpu") == Path("runs/b0-cpu")
    assert default_workdir("configs/b0.py") == Path("runs/b0")


def test_help_has_a_line_on_every_field_with_default_and_range():
    told = help_text("Trains.")
    for path, field in FIELDS.items():
        default = "unset" if field.default is None else field.default
        assert f"  --config.{path}={default}\n      {field.help}" in told
        assert field.range in told
    assert told.count("example:\n") == 1 and max(map(len, told.splitlines())) < 120
