"""The trainer's command line: absl flags, a locked config, and one line for every mistake."""

import sys
from pathlib import Path
from typing import Any, NoReturn

from absl import flags
from ml_collections import config_flags


def default_workdir(config_flag: Any) -> Path:
    """runs/b0 for configs/b0.py, runs/b0-cpu for configs/b0.py:cpu."""
    name, _, variant = Path(config_flag.config_filename).name.partition(":")
    return Path("runs") / "-".join(filter(None, [name.removesuffix(".py"), variant]))


def parse(argv: list[str], description: str | None) -> list[str]:
    """Parses flags and the config file; a mistake in either is one line and exit status 2."""
    config_flags.DEFINE_config_file("config", None, "Config file, e.g. configs/b0.py:cpu.")
    flags.DEFINE_string("workdir", None, "Folder of the run; default runs/b0 for configs/b0.py.")
    if any(arg in ("-h", "--help", "--helpfull") for arg in argv[1:]):
        from kkanji_jax.config import default_config

        print(description)
        print("flags:\n  --config FILE[:VARIANT]\n  --workdir DIR\n\nfields and their defaults:")
        print(default_config())
        sys.exit(0)
    try:
        # Looked for here: with a field overridden, ml_collections would tell of that instead.
        words = [*argv[1:], ""]
        for word, next_word in zip(words, words[1:], strict=False):
            flag, _, value = word.lstrip("-").partition("=")
            file = (value or next_word).partition(":")[0]
            if word.startswith("-") and flag == "config" and not Path(file).is_file():
                raise FileNotFoundError(f"no config file {file}; see the folder configs/")
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as err:
        fail(err, 2)
    return rest


def fail(err: Exception, status: int) -> NoReturn:
    """One line on stderr; of a traceback that a library put into a message, only its last line."""
    text = str(err).strip()
    if "Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    elif isinstance(err, KeyError | AttributeError):  # of ml_collections, which quotes twice
        name, _, suggestion = text.replace("\\'", "").strip("\"'").partition("\\n")
        text = f"no config field {name}: {suggestion or '--help lists all of them'}"
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    sys.exit(status)
