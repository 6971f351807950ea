"""Saved states: what goes in comes out; states and files that are refused."""

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from states import same, sample

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
        (tg.nn.Identity(), r"expected a dict of arrays by name, got Identity; write its state_dict\(\)"),
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
