"""Saved states: what goes in comes out, damage is found, and a failed save changes nothing."""

import errno
import json
import os
import stat
import sys

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_dl as tg
from tinygrad_dl.files import load, save

DTYPES = [
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
]


@pytest.fixture(params=[".safetensors", ".npz"])
def path(request, tmp_path):
    return tmp_path / f"state{request.param}"


def same(found, expected):
    """Equal in structure, types, dtypes, shapes and bytes; arrays and Tensors come back as Tensors."""
    if isinstance(expected, np.ndarray | tg.Tensor):
        array = np.asarray(expected.detach()) if isinstance(expected, tg.Tensor) else expected
        native = array.astype(array.dtype.newbyteorder("="))
        assert type(found) is tg.Tensor
        assert not found.requires_grad
        assert (found.dtype, found.shape) == (native.dtype, native.shape)
        assert found.numpy().tobytes() == native.tobytes()
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        assert [type(key) for key in found] == [type(key) for key in expected]
        for key in expected:
            same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        for f, e in zip(found, expected, strict=True):
            same(f, e)
    else:
        assert type(found) is type(expected)
        assert found == expected or (found != found and expected != expected)
    return True


def sample(dtype, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype)


# what goes in comes out


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2, 3, 4)])
def test_every_dtype_and_shape(path, shape):
    state = {dtype: sample(dtype, shape) for dtype in DTYPES}
    save(path, state)
    assert same(load(path), state)


def test_arrays_in_any_memory_layout(path):
    a = np.arange(24.0, dtype=np.float32).reshape(4, 6)
    state = {
        "transposed": a.T,
        "fortran": np.asfortranarray(a),
        "reversed": a[::-1, ::-1],
        "strided": a[1::2, ::3],
        "broadcast": np.broadcast_to(a[0], (3, 6)),
        "big endian": a.astype(">f4"),
        "big endian 0-d": np.array(7, ">i8"),
        "tensor": tg.tensor(a.T),
    }
    save(path, state)
    assert same(load(path), state)


def test_special_values_keep_their_bits(path):
    bits = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001, 0x7F800000], np.uint32)
    state = {"x": bits.view(np.float32)}
    save(path, state)
    assert load(path)["x"].numpy().tobytes() == bits.tobytes()


def test_tensors_are_saved_by_value(path):
    w = tg.tensor([1.0, 2.0], requires_grad=True)
    save(path, {"w": w, "w²": w * w})
    assert same(load(path), {"w": w, "w²": w.detach() * w.detach()})
    loaded = load(path)["w"]
    loaded.assign([5.0, 6.0])  # it owns its memory, and may be written
    assert load(path)["w"].tolist() == [1.0, 2.0]


def test_nested_state(path):
    state = {
        "model": {"0.weight": sample("float32", (2, 3)), "n": np.array(3)},
        "optimizer": {
            "state": {0: {"step": 3, "m": sample("float64", 4)}, 1: {}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "nesterov": False, "foreach": None, "params": [0, 1]}],
        },
        "generator": np.random.default_rng(0).bit_generator.state,
        "text": 'é "quoted" \\ \0 \ud800',
        "numbers": [0, -1, 2**200, 0.1, -0.0, 1e308, float("inf"), float("nan"), True],
        "empty": [(), [], {}, "", None],
    }
    save(path, state)
    assert same(load(path), state)
    assert np.signbit(load(path)["numbers"][4])


def test_numpy_scalars_become_numbers(path):
    save(path, {"a": np.float32(0.1), "b": np.int64(3), "c": np.bool_(True), "d": np.str_("x"), "e": np.float64(2.0)})
    assert same(load(path), {"a": np.float32(0.1).item(), "b": 3, "c": True, "d": "x", "e": 2.0})


numbers = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
values = st.recursive(
    numbers | arrays,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=3)
    ),
    max_leaves=8,
)


TAKEN = ("tinygrad_dl.state", "tinygrad_dl.sha256")  # metadata keys of the file itself


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@settings(max_examples=60)
@given(
    state=st.dictionaries(st.text(max_size=3), values, max_size=4),
    metadata=st.dictionaries(st.text().filter(lambda key: key not in TAKEN), st.text(), max_size=2),
)
def test_any_state(tmp_path_factory, suffix, state, metadata):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    save(path, state, metadata)
    loaded = load(path)
    assert same(loaded, state)
    assert loaded.metadata == metadata


HOSTILE = [
    "../x", "/etc/passwd", "C:\\x", "..", ".", "", "a", "a.npy", "a.npy.npy", "a/b", "a\\b", "nul\0byte", "nul", "日本",
    "\n", '"tinygrad_dl.sha256":"', "tinygrad_dl.sha256", "tinygrad_dl.state", "__metadata__", "__metadata___",
    "\udcff", "x" * 5000,
]  # fmt: skip


def test_names_stay_names(path):
    state = {name: np.array(i) for i, name in enumerate(HOSTILE)}
    save(path, state)
    assert same(load(path), state)
    assert list(path.parent.iterdir()) == [path]


def test_names_that_meet_in_the_file(path):
    state = {"a.b": np.array(1), "a": {"b": np.array(2)}, "a.b_": np.array(3), "c": {0: np.array(4), "0": np.array(5)}}
    save(path, state)
    assert same(load(path), state)


def test_metadata(path):
    metadata = {"author": "é\n", "format": "pt", "": ""}
    save(path, {"w": np.ones(2)}, metadata)
    assert load(path).metadata == metadata
    save(path, {"w": np.ones(2)})
    assert load(path).metadata == {}


def test_equal_states_make_equal_files(path):
    contents = set()
    for _ in range(8):
        save(path, {"b": np.ones(2), "a": np.ones(3)}, {"x": "1", "y": "2", "z": "3"})
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_model_and_optimizer_continue_where_they_were(path):
    from tinygrad_dl import nn, optim

    def build():
        model = nn.Linear(3, 2)
        return model, optim.Adam(model.parameters(), lr=0.1)

    def step(model, optimizer, seed):
        optimizer.zero_grad()
        (model(tg.tensor(sample("float32", (4, 3), seed))) ** 2).sum().backward()
        optimizer.step()

    model, optimizer = build()
    for i in range(3):
        step(model, optimizer, i)
    save(path, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    step(model, optimizer, 3)
    other, its_optimizer = build()
    state = load(path)
    other.load_state_dict(state["model"])
    its_optimizer.load_state_dict(state["optimizer"])
    step(other, its_optimizer, 3)
    assert same(other.state_dict(), model.state_dict())
    save(path, model.state_dict())
    build()[0].load_state_dict(load(path))


# other programs


def test_other_programs_read_a_flat_state(tmp_path):
    state = {"w": sample("float32", (2, 3)).T, "n": np.array(3), "flags": sample("bool", 5)}
    save(tmp_path / "x.safetensors", state, {"format": "pt"})
    save(tmp_path / "x.npz", state)
    read = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        zipped = {name: archive[name] for name in archive.files if name != "__metadata__"}
    for found in (read, zipped):
        assert set(found) == set(state)
        for name in state:
            assert found[name].dtype == state[name].dtype
            np.testing.assert_array_equal(found[name], state[name])
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata()["format"] == "pt"


def test_pytorch_and_back(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    theirs = {name: value.numpy() for name, value in module.state_dict().items()}
    save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    loaded = load(tmp_path / "theirs.safetensors")
    for name, value in theirs.items():
        same(loaded[name], value)
    save(tmp_path / "ours.safetensors", loaded)
    module.load_state_dict(load_file(tmp_path / "ours.safetensors"))
    save_file({"w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "brain.safetensors")
    with pytest.raises(
        ValueError, match=r"brain\.safetensors: array 'w' is BF16, which NumPy lacks; convert it to F32"
    ):
        load(tmp_path / "brain.safetensors")


def test_files_of_other_programs_load(tmp_path):
    state = {"b": sample("float16", (2, 3)), "a": np.array(3), "big": np.arange(3, dtype=">i4")}
    safetensors.numpy.save_file(state, tmp_path / "x.safetensors", {"made by": "hand"})
    np.savez(tmp_path / "x.npz", **state)
    np.savez_compressed(tmp_path / "y.npz", **state, fortran=np.asfortranarray(np.eye(3)))
    assert load(tmp_path / "x.safetensors").metadata == {"made by": "hand"}
    found = load(tmp_path / "x.safetensors")
    assert same({name: found[name] for name in state}, state)
    assert same(load(tmp_path / "x.npz"), state)
    assert same(load(tmp_path / "y.npz"), {**state, "fortran": np.eye(3)})


def test_a_foreign_file_may_hold_one_of_ours(tmp_path):
    save(tmp_path / "x.safetensors", {"w": np.ones(3)})
    state = {"x": np.frombuffer((tmp_path / "x.safetensors").read_bytes(), np.uint8)}
    safetensors.numpy.save_file(state, tmp_path / "y.safetensors")
    np.savez(tmp_path / "y.npz", **state)
    assert same(load(tmp_path / "y.safetensors"), state)
    assert same(load(tmp_path / "y.npz"), state)


class Bomb:
    """Runs code when unpickled."""

    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_pickled_objects_are_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", good=np.ones(2), evil=np.array([Bomb()], object))
    with pytest.raises(ValueError, match=r"x\.npz: array 'evil': Object arrays cannot be loaded"):
        load("x.npz")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "array", [np.array(["a"]), np.ones(1, complex), np.zeros(1, "datetime64[s]"), np.zeros(1, "f4,i4")]
)
def test_foreign_dtypes_are_refused_by_name(tmp_path, array):
    np.savez(tmp_path / "x.npz", w=array)
    with pytest.raises(ValueError, match=r"x\.npz: array 'w' is .*; expected real numbers"):
        load(tmp_path / "x.npz")


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


# messages


def test_bad_states_are_named_and_change_nothing(path):
    save(path, {"w": np.ones(3)})
    before = path.read_bytes()
    for state, message in [
        ({"w": np.array([1, None])}, r"state\['w'\] is an array of object; expected .* convert it"),
        ({"w": np.ma.array([1.0, 2.0], mask=[0, 1])}, r"state\['w'\] is a masked array of float64"),
        ({"w": np.array(["a"])}, r"state\['w'\] is an array of <U1"),
        ({"w": np.ones(2, complex)}, r"state\['w'\] is an array of complex128"),
        ({"a": {"b": [1, {2}]}}, r"state\['a'\]\['b'\]\[1\] is set; expected"),
        ({"f": np.sin}, r"state\['f'\] is ufunc"),
        ({"z": 1j}, r"state\['z'\] is complex"),
        ({"z": b"x"}, r"state\['z'\] is bytes"),
        ({1: np.ones(2)}, r"expected a string as key of state, got 1; use str\(key\)"),
        ({"a": {(1, 2): 3}}, r"expected a string or an integer as key of state\['a'\], got \(1, 2\)"),
        ({"a": {True: 3}}, r"as key of state\['a'\], got True"),
        ([np.ones(2)], r"expected a dict of arrays by name, got list; write \{'name': value\}"),
        (tg.tensor([1.0]), "expected a dict of arrays by name, got ndarray"),
    ]:
        with pytest.raises(TypeError, match="save: .*" + message):
            save(path, state)
    if np.dtype(np.longdouble).itemsize > 8:
        with pytest.raises(TypeError, match=r"state\['w'\] is an array of .*up to 64 bits"):
            save(path, {"w": np.ones(2, np.longdouble)})
    with pytest.raises(
        TypeError, match=r"save: metadata: expected strings by name, got 'epoch': 3; put it into the state"
    ):
        save(path, {}, {"epoch": 3})
    with pytest.raises(ValueError, match=r"'tinygrad_dl.sha256' is taken by the file itself"):
        save(path, {}, {"tinygrad_dl.sha256": ""})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("name", ["model.pt", "model", "model.safetensors.tmp", ".npz"])
def test_other_suffixes(tmp_path, name):
    with pytest.raises(ValueError, match=r"save: expected a name that ends in \.safetensors or \.npz, got '.*" + name):
        save(tmp_path / name, {})
    with pytest.raises(ValueError, match=r"load: expected a name .*in PyTorch, write such a file with safetensors"):
        load(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_missing_files_and_folders(path):
    with pytest.raises(
        FileNotFoundError, match=rf"load: there is no such file; check the path: '.*{path.name}'"
    ) as error:
        load(path)
    assert error.value.errno == errno.ENOENT
    with pytest.raises(FileNotFoundError, match=r"save: there is no such folder; make it first: '.*missing'"):
        save(path.parent / "missing" / path.name, {})
    path.mkdir()
    for function in (lambda: load(path), lambda: save(path, {})):
        with pytest.raises(IsADirectoryError, match="expected a file, got a folder"):
            function()
