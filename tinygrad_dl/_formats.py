"""The two file formats: bytes from arrays and texts by name, and back.

Both hold a checksum of all their bytes: 64 digits, the SHA-256 of the file with zeros in their place.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import NamedTuple
from zipfile import ZipFile, ZipInfo

import numpy as np
import safetensors.numpy

from .graph import Array

METADATA = "__metadata__"  # no name for an array, in either format
CHECKSUM = "tinygrad_dl.sha256"
_LABEL = f'"{CHECKSUM}":"'.encode()  # what stands before the digits
_ZEROS = b"0" * 64
_LOCAL_HEADER = 30  # bytes in front of a name in a zip archive


class Format(NamedTuple):
    write: Callable[[Mapping[str, Array], Mapping[str, str]], bytes]  # with zeros for the checksum
    read: Callable[[bytes], tuple[dict[str, Array], dict[str, str]]]
    digits: Callable[[bytes], int]  # the place of the checksum, negative if there is none


class Unsupported(ValueError):
    """A sound file holds what is not loaded."""


def supported(array: Array) -> bool:
    """Real numbers that both formats have, or booleans?"""
    return array.dtype.kind in "biuf" and array.dtype.itemsize <= 8


def seal(content: bytes, at: int) -> bytes:
    """The content with its checksum filled in."""
    return content[:at] + _digest(content, at) + content[at + len(_ZEROS) :]


def sealed(content: bytes, at: int) -> bool:
    """Is the checksum that of the content?"""
    return content[at : at + len(_ZEROS)] == _digest(content, at)


def _digest(content: bytes, at: int) -> bytes:
    view = memoryview(content)
    checksum = hashlib.sha256(view[:at])
    checksum.update(_ZEROS)
    checksum.update(view[at + len(_ZEROS) :])
    return checksum.hexdigest().encode()


# .safetensors: the header's length, the header as JSON, the arrays' bytes


def _write_safetensors(arrays: Mapping[str, Array], texts: Mapping[str, str]) -> bytes:
    """As the library does it, but with the metadata in order: equal states make equal files."""
    content = safetensors.numpy.save(dict(arrays), {**texts, CHECKSUM: _ZEROS.decode()})
    end = _header_end(content)
    header = json.loads(content[8:end])
    header[METADATA] = dict(sorted(header[METADATA].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _read_safetensors(content: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    header = json.loads(content[8 : _header_end(content)])
    texts = header.pop(METADATA, {})
    for name, entry in header.items():
        if entry["dtype"] not in _DTYPES:
            raise Unsupported(
                f"array {name!r} is {entry['dtype']}, which NumPy lacks; convert it to F32 where it was made"
            )
    arrays = safetensors.numpy.load(content)
    return {name: arrays[name] for name in header}, texts


_DTYPES = ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "C64"]


def _header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def _digits_in_header(content: bytes) -> int:
    at = content.find(_LABEL, 0, _header_end(content))  # inside a name or a text the quotes would be escaped
    return at + len(_LABEL) if at >= 0 else -1


# .npz: a zip archive with a .npy file for each array


def _write_npz(arrays: Mapping[str, Array], texts: Mapping[str, str]) -> bytes:
    """As np.savez does it, with the texts as an array of one string in front and the checksum as the comment."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.comment = _LABEL + _ZEROS + b'"'
        for name, array in {METADATA: np.array(json.dumps(texts).encode()), **arrays}.items():
            info = ZipInfo()
            info.filename = f"{name}.npy"  # given to the constructor, a name would be cut at a NUL
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def _read_npz(content: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    arrays = {}
    with ZipFile(io.BytesIO(content)) as archive:
        for info in archive.infolist():
            name = info.orig_filename.removesuffix(".npy")
            with archive.open(info) as member:
                try:
                    arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
                except ValueError as error:
                    raise Unsupported(f"array {name!r}: {error}; expected an array of numbers") from None
                if member.read(1):  # at the end of a member the archive checks its own checksum
                    raise ValueError(f"array {name!r} is longer than its header says")
    texts = arrays.pop(METADATA, None)
    return arrays, {} if texts is None else json.loads(texts.item())


def _digits_at_end(content: bytes) -> int:
    at = len(content) - len(_ZEROS) - len(b'"')
    if content.endswith(_LABEL, 0, at):
        return at
    if content.startswith(f"{METADATA}.npy".encode(), _LOCAL_HEADER):  # our first name, but not our last words
        raise ValueError("its checksum is missing")
    return -1


FORMATS = {
    ".safetensors": Format(_write_safetensors, _read_safetensors, _digits_in_header),
    ".npz": Format(_write_npz, _read_npz, _digits_at_end),
}
