"""Files of other programs, and ours read by them."""

import os

import numpy as np
import pytest
import safetensors.numpy
from states import same, sample

from tinygrad_dl.files import load, save


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
