"""Damage of a saved state is found, and a failed save changes nothing."""

import errno
import json
import os
import stat
import sys

import numpy as np
import pytest
import safetensors.numpy
from states import sample

from tinygrad_dl.files import load, save

# damage


def refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged, cut short or no|array '") as error:
        load(path)
    assert path.name in str(error.value)


def small_file(path):
    save(path, {"w": sample("float32", 3), "é": {"step": 3, "m": sample("float16", (2, 1))}}, {"by": "\x1f"})
    return path.read_bytes()


def test_flipped_bits_of_every_byte_are_found(path):
    content = bytearray(small_file(path))
    for at in range(len(content)):
        for bit in (at % 8, at * 5 % 7):
            content[at] ^= 1 << bit
            path.write_bytes(content)
            with pytest.raises(ValueError):  # noqa: PT011 - thousands of them: the message is tested elsewhere
                load(path)
            content[at] ^= 1 << bit
    path.write_bytes(content)
    load(path)


def test_every_truncation_is_found(path):
    content = small_file(path)
    for length in range(len(content)):
        refused(path, content[:length])


def test_flips_and_cuts_in_a_larger_file(path):
    save(path, {f"layer{i}.weight": np.random.default_rng(i).normal(size=(64, 64)) for i in range(8)})
    content, rng = path.read_bytes(), np.random.default_rng(0)
    for at in rng.integers(0, len(content), 60):
        refused(path, content[:at] + bytes([content[at] ^ (1 << rng.integers(8))]) + content[at + 1 :])
        refused(path, content[:at])


def test_lost_sectors_and_appended_bytes_are_found(path):
    content = small_file(path)
    for size in (1, 16, 100, 512):
        for at in range(0, len(content), size):
            block = content[at : at + size]
            for new in (bytes(len(block)), b"\xff" * len(block), b""):
                if new != block:
                    refused(path, content[:at] + new + content[at + len(block) :])
    refused(path, content + b"\0")
    refused(path, content + content)


def test_a_change_by_another_program_is_found(tmp_path):
    """The metadata of our file around other arrays: the checksum says that these are not the arrays saved."""
    path = tmp_path / "x.safetensors"
    save(path, {"w": np.ones(3)})
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    safetensors.numpy.save_file({"w": np.zeros(3)}, path, metadata)
    refused(path, path.read_bytes())


def test_files_of_another_kind(path):
    for content in (
        b"",
        b"PK\x03\x04",
        b"hello, world",
        b"\0" * 100,
        b"\xff" * 100,
        b"{}",
        (5).to_bytes(8, "little") + b"[1,2]",
    ):
        refused(path, content)
    other = path.with_suffix(".npz" if path.suffix == ".safetensors" else ".safetensors")
    save(other, {"w": np.ones(3)})
    refused(path, other.read_bytes())


def test_header_that_promises_too_much(tmp_path):
    header = json.dumps({"w": {"dtype": "F64", "shape": [1 << 40], "data_offsets": [0, 1 << 43]}}).encode()
    refused(tmp_path / "x.safetensors", len(header).to_bytes(8, "little") + header)


# saving fails


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), MemoryError()]
)
def test_a_failed_save_leaves_the_old_file_alone(path, monkeypatch, function, old, failure):
    def fail(*args, **kwargs):
        raise failure

    if old:
        save(path, {"w": np.ones(3)})
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(failure)) as error:
            save(path, {"w": np.zeros(3)})
    if isinstance(failure, OSError):
        assert error.value.errno == errno.ENOSPC
        assert "No space left" in str(error.value)
        assert path.name in str(error.value)
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


def test_a_full_disk_leaves_the_old_file_alone(path):
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    save(path, {"w": np.ones(3)})
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        with pytest.raises(OSError, match="save: could not write the file"):
            save(path, {"w": np.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


def test_the_file_is_synced_before_it_is_renamed_and_the_folder_after(path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def note_fsync(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    save(path, {"w": np.ones(3)})
    assert calls == ["file", "rename", "folder"]


@pytest.mark.skipif(sys.platform == "win32", reason="no such modes and links")
def test_modes_and_links_are_kept(path):
    umask = os.umask(0o027)
    try:
        save(path, {"w": np.ones(1)})
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o600)
    link = path.with_name("latest" + path.suffix)
    link.symlink_to(path)
    save(link, {"w": np.zeros(1)})
    assert link.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path)["w"].tolist() == [0.0]
