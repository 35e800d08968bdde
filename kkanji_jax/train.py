"""Trains a recogniser: `python -m kkanji_jax.train --config configs/b0.py [--workdir DIR]`.

The same command again resumes from the last checkpoint, to the bit on the same machine. Any field
is overridden as --config.FIELD=VALUE. SIGTERM and Ctrl-C save and exit; a second one exits at once.
"""

from pathlib import Path

from absl import app, flags, logging

from kkanji_jax import command_line


def main(argv: list[str]) -> None:
    """Runs the flags that absl has parsed."""
    values = flags.FLAGS
    if len(argv) > 1:
        raise ValueError(f"wanted flags only, got {' '.join(argv[1:])}; see --help")
    if values.config is None:
        raise ValueError("--config is missing, e.g. --config configs/b0.py")
    logging.set_verbosity(logging.WARNING)  # Orbax tells every file it writes
    default = command_line.default_workdir(values["config"])
    from kkanji_jax.training.loop import train  # here, for --help comes without JAX

    train(values.config, Path(values.workdir) if values.workdir else default)


def run() -> None:
    """Entry point: bad input is one line and exit status 1."""
    try:
        app.run(main, flags_parser=lambda argv: command_line.parse(argv, __doc__))
    except (ValueError, OSError, FloatingPointError) as err:
        command_line.fail(err, 1)
    except KeyboardInterrupt:
        command_line.fail(ValueError("interrupted; the same command goes on or starts"), 130)


if __name__ == "__main__":
    run()
