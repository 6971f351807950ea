"""`Store`: compiled code on disk, in the folder that TINYGRAD_DL_CACHE names; without it nothing is kept.

A file is found by the hash of all that decides its content: the text, the processor, LLVM's version and llvmlite's. It
begins with the hash of the code behind it, so what is damaged is noticed, left aside and written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_DIGEST = 32  # bytes of SHA-256


class Store:
    """What one module's code is kept under; `read` and `write` do nothing where there is no folder."""

    def __init__(self, *parts: str) -> None:
        folder = os.environ.get("TINYGRAD_DL_CACHE")
        name = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        self.path = Path(folder, f"{name}.o") if folder else None

    def read(self) -> bytes | None:
        """The code, or None if there is none or it is damaged."""
        if self.path is None:
            return None
        try:
            content = self.path.read_bytes()
        except OSError:
            return None
        digest, code = content[:_DIGEST], content[_DIGEST:]
        return code if hashlib.sha256(code).digest() == digest else None

    def write(self, code: bytes) -> None:
        """Keep the code; a folder that cannot be written is no error."""
        if self.path is None:
            return
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, suffix=".tmp")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(code).digest() + code)
                os.replace(temporary, self.path)
            except OSError:
                os.unlink(temporary)
