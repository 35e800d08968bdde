"""The trainer's command line: absl flags, the config file, and fields that are set or unset."""

import difflib
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_flags

from kkanji_jax import cli
from kkanji_jax.config import FIELDS, Config

PREFIX = "--config."


class Command(NamedTuple):
    """What the command line asks for: the resolved config and the run's folder."""

    config: Config
    workdir: Path


class UsageError(ValueError):
    """The command line or the config file cannot be understood; exit status 2."""


def help_text(description: str) -> str:
    """The output of --help: an example, and a line on every field."""
    name = cli.command_name("kkanji_jax.train")
    lines = [
        f"usage: {name} --config FILE[:VARIANT] [--workdir DIR] [--config.FIELD=VALUE ...]",
        "",
        description.strip(),
        "",
        "options:",
        "  --config FILE[:VARIANT]  a config, such as configs/b0.py:cpu",
        "  --workdir DIR            folder of the run (default: runs/b0 for configs/b0.py)",
        "  --version                show the version and exit",
        "  -h, --help               show this and exit",
        "",
        "fields, with their defaults before the config file sets any; None unsets one that may be",
        "unset:",
    ]
    for path, field in FIELDS.items():
        default = "unset" if field.default is None else field.default
        allowed = f" ({field.range}{', or None' if field.may_be_unset else ''})"
        lines.append(f"  {PREFIX}{path}={default}")
        lines.append(f"      {field.help}{allowed if field.range else ''}")
    example = "--config configs/b0.py:cpu --workdir runs/first --config.optim.lr_peak=1e-3"
    return "\n".join([*lines, "", "example:", f"  {name} {example}"])


def find_config(name: str) -> Path:
    """The config file of that name: relative to the current folder, or in the package.

    UsageError lists the existing configs.
    """
    if Path(name).is_file():
        return Path(name)
    package = Path(__file__).parents[1]
    homes = [home for home in (package / "configs", package.parent / "configs") if home.is_dir()]
    for home in homes:
        if Path(name).parent in (Path("configs"), Path(".")) and (home / Path(name).name).is_file():
            return home / Path(name).name
    known = sorted(path.stem for home in homes for path in home.glob("*.py") if path.stem[0] != "_")
    close = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"; did you mean configs/{close[0]}.py?" if close else ""
    there = ", ".join(f"configs/{stem}.py" for stem in known) or "none"
    raise UsageError(f"no config file {name}{hint}; with the package come {there}")


def default_workdir(config_file: str) -> Path:
    """runs/b0 for configs/b0.py, runs/b0-cpu for configs/b0.py:cpu."""
    name, _, variant = Path(config_file).name.partition(":")
    return Path("runs") / "-".join(filter(None, [name.removesuffix(".py"), variant]))


def parse(argv: list[str]) -> Command:
    """The arguments after the command's name -> config and workdir; UsageError, in one line."""
    words, unset = _without_unset(_with_found_config(argv))
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", None, "config file", flag_values=values, sys_argv=["train", *words]
    )
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)
    try:
        rest = values(["train", *words])
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as err:
        raise UsageError(_in_one_line(err)) from err
    if len(rest) > 1:
        raise UsageError(f"expected flags only, got {' '.join(rest[1:])}; see --help")
    if values["config"].value is None:
        raise UsageError("--config is missing, e.g. --config configs/b0.py")
    config: Any = values["config"].value
    for path in unset:
        with config.ignore_type():
            group, _, name = path.rpartition(".")
            (config[group] if group else config)[name] = None
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain reads absl's flags, which this command does not define
    workdir = values["workdir"].value
    named = values["config"].config_filename  # pyright: ignore[reportAttributeAccessIssue]
    return Command(config, Path(workdir) if workdir else default_workdir(named))


def _with_found_config(argv: list[str]) -> list[str]:
    """The arguments, beginning with one word that has the path of the config file as found.

    The path is checked here, because ml_collections would complain of an overridden field instead.
    """
    words: list[str] = []
    found: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag, separator, value = word.partition("=")
        if flag in ("--config", "-config"):
            if not separator and not rest:
                raise UsageError("--config must be followed by a file, e.g. --config configs/b0.py")
            file, colon, variant = (value if separator else rest.pop(0)).partition(":")
            found = [f"--config={find_config(file)}{colon}{variant}"]
        else:
            words.append(word)
    return [*found, *words]


def _without_unset(argv: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without those that set a field to None, and the fields that end up unset.

    ml_collections accepts None only if the config file left the field unset.
    """
    words: list[str] = []
    is_unset: dict[str, bool] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        flag, separator, value = word.partition("=")
        path = flag.removeprefix(PREFIX)
        if not flag.startswith(PREFIX) or path not in FIELDS:
            words.append(word)
            continue
        if not separator and rest and not rest[0].startswith("--"):
            value, word = rest[0], f"{flag}={rest.pop(0)}"
        is_unset[path] = value == "None"
        if is_unset[path] and not FIELDS[path].may_be_unset:
            raise UsageError(f"{flag} cannot be None: it must be set")
        words = [each for each in words if each.partition("=")[0] != flag]
        if not is_unset[path]:
            words.append(word)
    return words, [path for path, is_none in is_unset.items() if is_none]


def _in_one_line(err: Exception) -> str:
    """The last line of a message in which a library has put a traceback."""
    text = str(err).strip()
    if "Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    elif isinstance(err, KeyError | AttributeError):  # of ml_collections, which quotes twice
        name, _, suggestion = text.replace("\\'", "").strip("\"'").partition("\\n")
        text = f"no config field {name}: {suggestion or '--help lists all of them'}"
    return " ".join(text.split())
