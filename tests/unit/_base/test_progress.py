"""The progress line: what it shows, and when it keeps silent."""

import pytest

from jaxcur._base import ProgressBar, _progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(_progress.time, "monotonic", lambda: now[0])
    return now


def test_the_line_shows_share_rate_and_note(capsys, clock):
    bar = ProgressBar("verify", 40, "runs", True)
    bar.update(0)
    clock[0] += 10
    bar.update(10, ", 1/2 decided")
    bar.close()
    lines = capsys.readouterr().err.split("\r")
    assert lines[1].startswith(f"verify [{'':24}] 0/40 runs")
    assert lines[2] == (
        f"verify [{'######':24}] 10/40 runs, 1/2 decided, at most 30 s left\x1b[K\n"
    )


def test_a_restart_counts_again_and_an_unknown_total_has_no_bar(capsys, clock):
    bar = ProgressBar("pass 1", None, "chunks", True, left="about")
    bar.update(3)
    bar.restart("pass 2", 4)
    clock[0] += 1
    bar.update(1)
    clock[0] += 200
    bar.update(2)
    first, second, third = capsys.readouterr().err.split("\r")[1:]
    assert first == "pass 1: 3 chunks\x1b[K"
    assert second.startswith(f"pass 2 [{'######':24}] 1/4 chunks\x1b[K")
    assert "2/4 chunks, about 6 min left" in third


def test_short_runs_and_unwatched_ones_are_silent(capsys, clock, monkeypatch):
    bar = ProgressBar("run", 4, "chunks", None)
    clock[0] += 10
    bar.update(1)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    bar = ProgressBar("run", 4, "chunks", None)
    clock[0] += 1
    bar.update(1)
    bar.close()
    assert capsys.readouterr().err == ""
    clock[0] += 10
    bar.update(2)
    assert "2/4 chunks" in capsys.readouterr().err
