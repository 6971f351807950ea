"""`functions`: text of LLVM functions as machine code in this process, each distinct text compiled once."""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import threading
from collections.abc import Sequence

import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np

_ATTRIBUTES = 'attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }\n'
_lock = threading.Lock()
_addresses: dict[str, int] = {}


@functools.cache
def _host() -> tuple[str, str, str]:
    """The triple, processor and features of this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def functions(texts: Sequence[str], declares: Sequence[str]) -> list[int]:
    """The addresses of functions. Each text defines `@NAME` with the attributes `#0` left out.

    declares: the intrinsics that they call."""
    with _lock:
        new = [text for text in dict.fromkeys(texts) if text not in _addresses]
        if new:
            triple, cpu, features = _host()
            target = llvm.Target.from_triple(triple)
            machine = target.create_target_machine(cpu=cpu, features=features, opt=1, jit=True)  # the engine frees it
            head = f'target triple = "{triple}"\ntarget datalayout = "{machine.target_data}"\n'
            parts = [text.replace("@NAME", f"@f{i}", 1).replace(") {", ") #0 {", 1) for i, text in enumerate(new)]
            module = llvm.parse_assembly("\n".join([head, *parts, *declares, _ATTRIBUTES]))
            engine = llvm.create_mcjit_compiler(module, machine)
            engine.finalize_object()
            _addresses.update((text, engine.get_function_address(f"f{i}")) for i, text in enumerate(new))
            engine.detach()  # the code stays until the process ends; disposing of it then fails now and again
        return [_addresses[text] for text in texts]


@functools.cache
def product_routine(dtype: str) -> int | None:
    """The address of the matrix product in the OpenBLAS that NumPy's wheel brings along, None without it.

    dtype: `float32` or `float64`. Its integers have 64 bits."""
    folder = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "numpy.libs")
    name = {"float32": "scipy_cblas_sgemm64_", "float64": "scipy_cblas_dgemm64_"}[dtype]
    for path in glob.glob(os.path.join(folder, "*openblas64*")):
        try:
            return ctypes.cast(getattr(ctypes.CDLL(path), name), ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None
