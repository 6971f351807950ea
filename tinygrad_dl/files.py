"""State on disk: `save` writes a state dict to one file, atomically; `load` reads it and detects damage.

The suffix says the format, `.safetensors` or `.npz`; no code is ever stored or run. Arrays lie in the file under
their dotted names ("optimizer.state.0.exp_avg"), so that other programs read them, and their files load here.
The rest of the state (nesting, numbers, strings) is JSON in the file's metadata, with a checksum of all bytes.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._formats import CHECKSUM, FORMATS, METADATA, Format, Unsupported, seal, sealed, supported
from ._tensor import Tensor
from .graph import Array

_STATE = "tinygrad_dl.state"  # the structure's key in the metadata
_RANDOM, _UNFINISHED = 8, ".tmp"  # bytes in the name of a file that is being written, and its suffix


class State(dict[str, Any]):
    """What `load` returns: the state, a dict; `.metadata` holds the strings that were saved with it."""

    def __init__(self, state: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
        super().__init__(state)
        self.metadata = dict(metadata)


def save(path: str | os.PathLike[str], state: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write a state dict to a file.

    path: its suffix, `.safetensors` or `.npz`, says the format.
    state: a dict of Tensors and ndarrays (real numbers or booleans of up to 64 bits), numbers, strings, None, and
        lists, tuples and dicts of these. Inner dicts may have integer keys, as an optimizer's has. NumPy scalars are
        saved as numbers; byte order, `requires_grad` and shared memory are not saved.
    metadata: strings by name, for people and other programs.

    An existing file is replaced only when the new one is safely on disk; if anything fails, it remains.
    Raises TypeError for values and keys that cannot be saved, ValueError for another suffix, OSError
    (FileNotFoundError for a missing folder, IsADirectoryError for a folder) when the file cannot be written.
    """
    target, form = _place("save", path)
    arrays: dict[str, Array] = {}
    try:
        tree = _encode(state, (), arrays)
    except RecursionError as error:
        raise ValueError("save: the state contains itself, or is nested too deeply") from error
    texts = {**_texts(metadata), _STATE: json.dumps(tree)}
    content = form.write(arrays, texts)
    _replace(target, seal(content, form.digits(content)))


def load(path: str | os.PathLike[str]) -> State:
    """Read a state dict, as `save` or another program wrote it.

    Arrays are returned as Tensors that do not require grad, everything else as it was; `.metadata` of the result holds
    the strings. A file from another program has no checksum and is loaded without that check.
    Raises FileNotFoundError, IsADirectoryError, and ValueError for another suffix, a damaged or foreign file, and
    dtypes that are not supported (bfloat16, complex numbers, strings, Python objects).
    """
    target, form = _place("load", path)
    try:
        content = target.read_bytes()
    except FileNotFoundError as error:
        message = "load: there is no such file; check the path"
        raise FileNotFoundError(errno.ENOENT, message, str(target.absolute())) from error
    try:
        at = form.digits(content)
        if at >= 0 and not sealed(content, at):
            raise ValueError("its bytes do not match its checksum")
        arrays, texts = form.read(content)
        if at < 0 and _STATE in texts:
            raise ValueError("its checksum is missing")
        tensors = {name: _tensor(name, array) for name, array in arrays.items()}
        state = _decode(json.loads(texts[_STATE]), tensors) if _STATE in texts else tensors
        return State(state, {key: text for key, text in texts.items() if key not in (_STATE, CHECKSUM)})
    except Unsupported as error:
        raise ValueError(f"load: {target}: {error}") from None
    except Exception as error:  # damaged bytes may raise anything in a reader
        raise ValueError(
            f"load: {target} is damaged, cut short or no {target.suffix} file ({error}); "
            "take another copy of it, or save it again"
        ) from error


# a state as arrays and JSON


def _encode(value: Any, path: tuple[str | int, ...], arrays: dict[str, Array]) -> Any:
    """The structure of a value as JSON; its arrays are collected under their names in the file."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Tensor):
        value = value.data
    if not path and not isinstance(value, Mapping):
        instead = "its state_dict()" if hasattr(value, "state_dict") else "{'name': value}"
        raise TypeError(f"save: expected a dict of arrays by name, got {type(value).__name__}; write {instead}")
    if isinstance(value, Mapping):
        return {"dict": [[_key(k, path), _encode(v, (*path, k), arrays)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        items = [_encode(v, (*path, i), arrays) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, np.ndarray) and supported(value) and not np.ma.isMaskedArray(value):
        name = ".".join(map(str, path)).encode(errors="backslashreplace").decode()
        while name in arrays or name == METADATA:
            name += "_"
        arrays[name] = value.astype(value.dtype.newbyteorder("<"), order="C", copy=False)
        return {"array": name}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = type(value).__name__
    if isinstance(value, np.ndarray):
        kind = f"{'a masked' if np.ma.isMaskedArray(value) else 'an'} array of {value.dtype}"
    raise TypeError(
        f"save: {_where(path)} is {kind}; expected Tensors or arrays (real numbers of up to 64 bits), numbers, "
        "strings, None, or lists, tuples and dicts of these; convert it (np.asarray, float, str) or leave it out"
    )


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(n, tensors) for n in node]
    if not isinstance(node, dict):
        return node
    [(kind, content)] = node.items()
    if kind == "array":
        return tensors[content]
    if kind == "tuple":
        return tuple(_decode(n, tensors) for n in content)
    return {key: _decode(n, tensors) for key, n in content}


def _key(key: Any, path: tuple[str | int, ...]) -> str | int:
    if isinstance(key, str) or (path and type(key) is int):
        return key
    expected = "a string or an integer" if path else "a string"
    raise TypeError(f"save: expected {expected} as key of {_where(path)}, got {key!r}; use str(key)")


def _where(path: tuple[str | int, ...]) -> str:
    return "state" + "".join(f"[{key!r}]" for key in path)


def _texts(metadata: Mapping[str, str] | None) -> dict[str, str]:
    texts = dict(metadata or {})
    for key, text in texts.items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise TypeError(f"save: metadata: expected strings by name, got {key!r}: {text!r}; put it into the state")
        if key in (_STATE, CHECKSUM):
            raise ValueError(f"save: metadata: the key {key!r} is taken by the file itself; choose another")
    return texts


def _tensor(name: str, array: Array) -> Tensor:
    if not supported(array):
        raise Unsupported(f"array {name!r} is {array.dtype}; expected real numbers of up to 64 bits or booleans")
    return Tensor(array.astype(array.dtype.newbyteorder("="), copy=False))


# the disk


def _place(function: str, path: str | os.PathLike[str]) -> tuple[Path, Format]:
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, f"{function}: expected a file, got a folder", str(target))
    if target.suffix in FORMATS:
        return target, FORMATS[target.suffix]
    hint = "" if function == "save" else "; in PyTorch, write such a file with safetensors.torch.save_file"
    raise ValueError(f"{function}: expected a name that ends in {' or '.join(FORMATS)}, got {str(target)!r}{hint}")


def _replace(target: Path, content: bytes) -> None:
    """Put a complete file in the place of the old one. (A link goes on pointing to the file that it names.)"""
    final = target.resolve()
    if not final.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "save: there is no such folder; make it first", str(final.parent))
    temporary = final.with_name(f".{secrets.token_hex(_RANDOM)}{_UNFINISHED}")
    try:
        with open(temporary, "xb") as file:
            if final.exists():
                shutil.copymode(final, temporary)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
        _sync_folder(final.parent)
    except OSError as error:
        raise OSError(error.errno, f"save: could not write the file: {error.strerror}", str(target)) from error
    finally:
        temporary.unlink(missing_ok=True)


def unfinished(folder: Path) -> list[Path]:
    """The files in a folder that a `save` was writing when its process was killed, or is writing now."""
    found = folder.glob(f".*{_UNFINISHED}")
    return [f for f in found if re.fullmatch(rf"\.[0-9a-f]{{{2 * _RANDOM}}}", f.stem)]


def _sync_folder(folder: Path) -> None:
    """Make the new name durable, where the system has a way to (Windows has none)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
