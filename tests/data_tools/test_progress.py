"""Progress on stderr."""

import io

from data_tools.progress import ProgressLines


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_now_and_then_with_counts_and_time_left():
    clock, stream = Clock(), io.StringIO()
    report = ProgressLines(stream, clock)
    for done in range(0, 4001, 10):
        report("writing examples", done, 4000)
        clock.now_s += 0.5
    lines = stream.getvalue().splitlines()
    assert lines[0] == "writing examples: 200 of 4,000, 3:10 min left"
    assert lines[-1] == "writing examples: 4,000 of 4,000, 3:20 min"
    assert len(lines) == 20


def test_on_a_terminal_one_line_is_rewritten_and_ended_once():
    clock, stream = Clock(), Terminal()
    report = ProgressLines(stream, clock)
    for done in range(5):
        report("verifying", done, 4)
        clock.now_s += 1.0
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().startswith("\r\x1b[Kverifying: 1 of 4")


def test_work_kept_from_before_does_not_shorten_the_time_left():
    clock, stream = Clock(), io.StringIO()
    report = ProgressLines(stream, clock)
    report("writing", 500, 1000)
    clock.now_s += 100
    report("writing", 600, 1000)
    assert stream.getvalue() == "writing: 600 of 1,000, 6:40 min left\n"


def test_each_step_has_its_own_clock_and_an_unknown_total_no_promise():
    clock, stream = Clock(), io.StringIO()
    report = ProgressLines(stream, clock)
    report("reading", 0, None)
    clock.now_s += 20
    report("reading", 5, None)
    report("writing", 0, 2)
    clock.now_s += 7200
    report("writing", 1, 2)
    assert stream.getvalue() == "reading: 5\nwriting: 1 of 2, 2 h 00 min left\n"
