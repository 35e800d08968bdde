"""Trains a recogniser: `python -m kkanji_jax.train --config configs/b0.py [--workdir DIR]`.

The same command again resumes from the last checkpoint, to the bit on the same machine. Any field
is overridden as --config.FIELD=VALUE. SIGTERM and Ctrl-C save and exit; a second one exits at once.
"""

import functools
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from kkanji_jax import cli

HAS_COMPILED = "KKANJI_HAS_COMPILED"  # in the environment of the process that starts anew


def main(argv: Sequence[str] | None = None, *, is_process: bool = False) -> int:
    """Trains; 0 when trained or told to stop, 2 for a wrong command line, else 1 and one line.

    If this is all that the process does, `is_process`, it may start itself anew after compiling.
    """
    from kkanji_jax.training import flags

    words = list(sys.argv[1:] if argv is None else argv)
    if any(word in ("-h", "--help", "--helpfull") for word in words):
        print(flags.help_text(__doc__ or ""))
        return 0
    if "--version" in words:
        print(cli.version())
        return 0
    try:
        command = flags.parse(words)
    except flags.UsageError as err:
        print(f"error: {cli.describe(err)}", file=sys.stderr)
        return 2

    def work() -> None:
        from absl import logging

        from kkanji_jax.training import host_memory

        has_compiled = os.environ.pop(HAS_COMPILED, None) is not None
        is_kept = host_memory.keep_freed_memory()  # before JAX is imported and starts threads
        # Imported here, so that --help needs no JAX.
        from kkanji_jax.training.loop import CompiledHereError, train

        logging.use_absl_handler()
        logging.set_verbosity(logging.WARNING)  # Orbax logs every file it writes
        may_start_anew = is_process and is_kept and not has_compiled
        try:
            train(command.config, command.workdir, may_start_anew=may_start_anew)
        except CompiledHereError:
            print(
                "compiled; starting anew with the compiled program, which is faster in a process "
                "that has not compiled",
                file=sys.stderr,
                flush=True,
            )
            os.environ[HAS_COMPILED] = "1"
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    return cli.answer(work, interrupted="interrupted: the same command resumes, or starts")


def run() -> NoReturn:
    """The process of `python -m kkanji_jax.train` and kkanji-train."""
    cli.run(functools.partial(main, is_process=True))


if __name__ == "__main__":
    run()
