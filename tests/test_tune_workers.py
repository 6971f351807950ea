"""Worker processes meeting at a storage: the same trials as one worker's, whoever is killed."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tinygrad_dl import tune

optuna = pytest.importorskip("optuna")
from trials import BLAS, SPACE, Deadly, bowl, faulty, reporting  # noqa: E402

TESTS = Path(__file__).parent
optuna.logging.set_verbosity(optuna.logging.WARNING)
pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Worker processes find the library and the objectives."""
    path = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))


def check(folder, storage, size):
    """Two workers, of whom one is killed: every trial counts once, and is what one worker alone makes of it."""
    objective = Deadly(folder)
    found = tune.search(objective, SPACE, size, workers=2, storage=storage)
    assert found.trials == tune.search(bowl, SPACE, size).trials
    assert sorted(objective.log()) == sorted([*range(size), 2])
    processes = {pid for _, pid, _ in objective.entries()}
    assert os.getpid() not in processes
    assert 2 <= len(processes) <= 3
    assert {threads for _, _, threads in objective.entries()} == {"1"}
    return found


def test_a_killed_workers_trial_is_run_again(tmp_path, monkeypatch):
    """Here the trials meet in a journal of their own, which is gone afterwards; the study stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(BLAS, "7")
    found = check(tmp_path, None, 8)
    assert os.environ[BLAS] == "7"
    assert found.study.best_value == found.best.value
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_a_search_that_is_killed_at_any_moment_ends_with_the_same_trials(tmp_path):
    """One process is killed again and again, at random moments, storing included; the next goes on at once."""
    size, kills = 6, 8
    arguments = [sys.executable, str(TESTS / "trials.py"), repr((str(tmp_path / "journal"), size, kills, 0.4))]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}  # of a fork beside BLAS's threads
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    codes = ast.literal_eval(done.stdout)
    assert codes.count(-signal.SIGKILL) > kills // 2
    assert codes[-1] == 0, done.stderr
    found = tune.search(reporting, SPACE, size, storage=tmp_path / "journal")
    whole = tune.search(reporting, SPACE, size)
    assert [trial.params for trial in found.trials] == [trial.params for trial in whole.trials]
    assert [trial.number for trial in found.study.get_trials()] == list(range(size))
    assert all(a.value == b.value for a, b in zip(found.trials, whole.trials, strict=True) if a.state == b.state)


def test_what_a_worker_raises_ends_the_search(tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)a worker has ended: .*LookupError: no such data.*in trial \d of the"):
        tune.search(faulty, SPACE, 3, workers=2, storage=tmp_path / "journal")
    found = tune.search(bowl, SPACE, 3, storage=tmp_path / "journal")
    assert found.trials == tune.search(bowl, SPACE, 3).trials


@pytest.fixture
def postgres():
    """The URL of a PostgreSQL server of its own, listening on a socket in a folder of its own."""
    pytest.importorskip("psycopg", reason="needs psycopg, which speaks to PostgreSQL")
    programs = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ["PATH"].split(os.pathsep))]
    home = next((folder for folder in programs if (folder / "initdb").exists()), None)
    if home is None:
        pytest.skip("no PostgreSQL server is installed")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path must be short
    root = os.geteuid() == 0
    user = "postgres" if root else None  # the server refuses to be started by root
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"

    def call(program, *arguments):
        command = [str(home / program), "-D", str(folder / "data"), *arguments]
        return subprocess.run(command, user=user, cwd=folder, capture_output=True, text=True, check=False)

    try:
        if root:
            shutil.chown(folder, user)
        made = call("initdb", "-U", "tune", "-A", "trust", "--no-sync")
        began = call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        if made.returncode or began.returncode:
            pytest.skip(f"no PostgreSQL server can be started: {made.stderr}{began.stdout}{began.stderr}")
        yield f"postgresql+psycopg://tune@/postgres?host={folder}"
        call("pg_ctl", "-m", "immediate", "stop")
    except LookupError as error:
        pytest.skip(f"no user to start PostgreSQL: {error}")
    finally:
        shutil.rmtree(folder)


def test_with_postgresql_too(tmp_path, postgres):
    check(tmp_path, postgres, 4)
