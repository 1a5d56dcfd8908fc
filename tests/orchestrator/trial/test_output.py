"""What a trial prints is caught, and what is printed beside it is not."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from orchestrator.trial.output import python_output


def test_only_the_trials_own_thread_is_caught_and_only_while_it_is_not_paused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with python_output() as output:
        print("of the trial")
        print("a warning of the trial", file=sys.stderr)
        other = threading.Thread(target=lambda: print("of the display", file=sys.stderr))
        other.start()
        other.join()
        with output.paused():
            print("of the driver", file=sys.stderr)
        print("more")
        assert output.take() == "of the trial\na warning of the trial\nmore\n"
        assert output.take() == ""
    print("after")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("after\n", "of the display\nof the driver\n")


def test_a_stream_is_asked_as_before() -> None:
    stream, usual = sys.stderr, sys.stderr
    with python_output():
        assert sys.stderr is not usual
        assert sys.stderr.isatty() == usual.isatty()
    assert sys.stderr is stream


def test_a_failure_puts_the_streams_back() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(KeyboardInterrupt), python_output():
        raise KeyboardInterrupt
    assert (sys.stdout, sys.stderr) == before


PROGRAM = """
import os
from orchestrator.trial.output import process_output
with process_output() as take:
    print("python")
    os.write(2, b"not python\\n")
    first = take()
    os.write(1, b"more\\n")
    assert take() == "more\\n" and take() == ""
assert sorted(first.splitlines()) == ["not python", "python"], first
print("after")
"""


def test_all_that_a_process_prints_is_caught_with_what_libraries_in_c_print() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "after\n", "")
