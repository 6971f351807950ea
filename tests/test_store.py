"""Machine code on disk: found again by another process, and written anew where it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("llvmlite")

PROGRAM = """
import numpy as np, tinygrad_dl as tg
from tinygrad_dl.compiler.native.store import Store
read, written = [], []
old_read, old_write = Store.read, Store.write
Store.read = lambda self: (read.append(old_read(self)), read[-1])[1]
Store.write = lambda self, code: (written.append(code), old_write(self, code))[1]
f = tg.compile(lambda x: np.tanh(x * 2) + 1, backend="native")
f(np.ones(100)), f(np.ones(100))
assert np.allclose(f(np.zeros(100)).numpy(), 1)
g = tg.compile(lambda x: np.maximum(x, 0).sum(axis=0) * 3, backend="native")
g(np.ones((3, 4))), g(np.ones((3, 4)))
print(sum(code is not None for code in read), len(written))
"""


def run(folder):
    environment = {**os.environ, "TINYGRAD_DL_CACHE": str(folder)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    return tuple(map(int, done.stdout.split()))


def test_another_process_finds_the_code_and_damage_is_repaired(tmp_path):
    folder = tmp_path / "cache"
    read, number = run(folder)
    assert (read, number > 0) == (0, True)
    assert run(folder) == (number, 0)
    files = sorted(folder.iterdir())
    assert len(files) == number, "every text for itself"
    content = [file.read_bytes() for file in files]
    half = len(content[2]) // 2
    damaged = [b"", content[1][:-7], content[2][:half] + bytes([content[2][half] ^ 1]) + content[2][half + 1 :]]
    for file, wrong in zip(files, damaged, strict=False):
        file.write_bytes(wrong)
    assert run(folder) == (number - 3, 3)
    assert [file.read_bytes() for file in files] == content
    assert run(folder) == (number, 0)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    read, written = run(tmp_path / "file" / "cache")
    assert (read, written > 0) == (0, True)
