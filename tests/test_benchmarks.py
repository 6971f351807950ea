"""The benchmarks' arithmetic, tables and checks, without timing anything."""

import os
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip("benchmarks", reason="is found from the repository's root: python -m pytest")
from benchmarks import __main__, budget, compiled, peers, race, reference, report, tables, timing
from benchmarks.peer_ours import training
from benchmarks.processes import Failed, Remote

SMALL = peers.Network((6, 5, 4, 3), 8)
OURS, THEIRS = [3.0, 1.0, 2.0, 9.0, 2.0], [4.0, 4.0, 1.0, 8.0, 5.0]


def test_ratio_is_of_medians_and_its_spread_that_of_the_rounds():
    assert timing.ratio(OURS, THEIRS) == np.median(OURS) / np.median(THEIRS)
    expected = np.quantile(np.divide(OURS, THEIRS), [0.25, 0.75])
    np.testing.assert_allclose(timing.quartiles(OURS, THEIRS), expected)


def test_nobody_is_timed_while_a_thread_spins():
    """Whoever came after OpenBLAS's threads took 1.35 of the time."""
    end = time.monotonic() + 0.2

    def spin():
        while time.monotonic() < end:
            pass

    threading.Thread(target=spin).start()
    timing.rest()
    assert time.monotonic() > end


def test_comparison_is_a_table_whose_columns_stand_below_each_other():
    table = tables.comparison("Steps", {"ours": OURS, "a peer": THEIRS}, "ours", {"a peer": 0.5}, ["A note."])
    title, blank, *lines, after, note, last = str(table).split("\n")
    assert (title, blank, after, note, last) == ("## Steps (µs)", "", "", "A note.", "")
    assert len({tuple(i for i, c in enumerate(line) if c == "|") for line in lines}) == 1
    cells = [cell.strip() for cell in lines[-1].strip("|").split("|")]
    assert cells == ["a peer", "4,000,000", "1,000,000", "0.50", "1.00", "0.40 to 1.12", "0.50"]


@pytest.mark.parametrize(("value", "found"), [(0.1, "stretch"), (0.11, "must"), (0.2, "must"), (0.21, "no")])
def test_a_limit_is_reached_up_to_its_value(value, found):
    assert tables.reached(value, 0.2, 0.1) == found


def test_summary_names_the_fastest_peer_and_not_a_reference():
    names = [peers.COMPILED, peers.EAGER, peers.TORCH, peers.JAX, peers.PRODUCTS]
    times = dict(zip(names, ([2.0], [9.0], [8.0], [4.0], [1.0]), strict=True))
    row = compiled._row("digits", peers.DIGITS, race.Outcome(times, dict.fromkeys(names, 2)))
    assert row[2:5] == ["jax.jit, 2 threads", "4,000,000", "0.50"]
    assert row[-1] == "no"


def test_work_and_memory_of_a_step_are_counted():
    given = reference.factors(SMALL)
    assert SMALL.flops == sum(2 * len(a) * b.size for a, b in given)
    step, x, y = training(SMALL, lambda f: f)
    step(x, y)
    held = [cell.cell_contents for cell in step.__closure__]
    model, optimizer = (next(h for h in held if hasattr(h, name)) for name in ("state_dict", "param_groups"))
    averages = sum(a.numpy().nbytes for s in optimizer.state.values() for a in s.values() if hasattr(a, "numpy"))
    state = sum(np.asarray(a).nbytes for a in model.state_dict().values() if np.ndim(a))
    assert SMALL.nbytes == state + averages + x.numpy().nbytes + y.numpy().nbytes


def test_contestants_agree_and_one_that_does_not_is_seen():
    eager, again = (race.Runner(name).results(SMALL.checked()) for name in (peers.EAGER, peers.COMPILED))
    race.same(again, eager, "compiled")
    again[2][0] = again[2][0] * 1.001
    with pytest.raises(AssertionError, match="compiled, step 3"):
        race.same(again, eager, "compiled")


def test_a_package_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setitem(peers.WHERE, "nobody", ("no_such_package", "peer_none", ""))
    assert peers.make("nobody", SMALL) is None
    assert "no_such_package" in peers.missing(["nobody"])[0]


def test_parts_of_the_budget_are_the_whole():
    pytest.importorskip("llvmlite")
    parts = budget.Budget(SMALL).measure(5)
    assert set(parts) == set(budget.PARTS)
    assert min(parts[name] for name in ("guards", "numbers", "random", "calls", "around")) > 0


def test_another_process_has_its_own_threads_and_says_what_went_wrong(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    count = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    with Remote(subprocess.check_output, count, threads=3) as remote:
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert remote.call("strip") == b"3"
        with pytest.raises(Failed, match="ValueError: subsection not found"):
            remote.call("index", b"7")
        assert remote.call("count", b"3") == 1


def test_page_has_the_machine_and_every_table():
    found = [tables.Table(f"Number {i}", ["", "x"], [["a", str(i)]]) for i in range(2)]
    text = report.page(report.machine(), found, 3.2)
    assert f"numpy {np.__version__}" in text
    assert "in 3 minutes" in text
    assert all(str(table).strip() in text for table in found)
    assert statistics.fmean(map(len, text.splitlines())) < 120


def test_a_table_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit, match="nothing"):
        __main__.main()
