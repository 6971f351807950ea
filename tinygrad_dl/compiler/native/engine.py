"""`functions`: text of LLVM functions as machine code in this process, each distinct text compiled once."""

from __future__ import annotations

import ctypes
import functools
import glob
import os
import platform
import threading
from collections.abc import Sequence

import llvmlite  # type: ignore[import-untyped]
import llvmlite.binding as llvm  # type: ignore[import-untyped]
import numpy as np

from .store import Store

_ATTRIBUTES = 'attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }\n'
_X86 = platform.machine().lower() in ("x86_64", "amd64")
CONTROLS = [f"declare void @llvm.x86.sse.{name}mxcsr(ptr)" for name in ("st", "ld")] if _X86 else []
# What a function begins and ends with so that denormal results and operands are zero in between: averages of
# gradients that have become zero decay into them, and arithmetic on them takes 20 times as long (Adam on 8,192
# parameters 75 instead of 4 µs).
WITHOUT_DENORMALS: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
if _X86:
    WITHOUT_DENORMALS = (
        (
            "  %control.was = alloca i32",
            "  %control.now = alloca i32",
            "  call void @llvm.x86.sse.stmxcsr(ptr %control.was)",
            "  %control = load i32, ptr %control.was",
            f"  %zeroing = or i32 %control, {0x8040}",
            "  store i32 %zeroing, ptr %control.now",
            "  call void @llvm.x86.sse.ldmxcsr(ptr %control.now)",
        ),
        ("  call void @llvm.x86.sse.ldmxcsr(ptr %control.was)",),
    )
_lock = threading.Lock()
_addresses: dict[str, int] = {}


@functools.cache
def _host() -> tuple[str, str, str]:
    """The triple, processor and features of this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def functions(texts: Sequence[str], declares: Sequence[str], kept: bool = False) -> list[int]:
    """The addresses of functions. Each text defines `@NAME`, and helpers of its own with names that begin so.

    declares: the intrinsics that they call. kept: keep them on disk, see `store`; not for texts that name addresses,
    which are others in the next process."""
    with _lock:
        new = [text for text in dict.fromkeys(texts) if text not in _addresses]
        if new:
            triple, cpu, features = _host()
            target = llvm.Target.from_triple(triple)
            machine = target.create_target_machine(cpu=cpu, features=features, opt=1, jit=True)  # the engine frees it
            head = f'target triple = "{triple}"\ntarget datalayout = "{machine.target_data}"\n'
            parts = [text.replace("@NAME", f"@f{i}").replace(") {\n", ") #0 {\n") for i, text in enumerate(new)]
            module = llvm.parse_assembly("\n".join([head, *parts, *declares, _ATTRIBUTES]))
            engine = llvm.create_mcjit_compiler(module, machine)
            if kept:
                versions = (llvmlite.__version__, str(llvm.llvm_version_info))
                store = Store(triple, cpu, features, *versions, _ATTRIBUTES, *parts)
                engine.set_object_cache(lambda _, code: store.write(code), lambda _: store.read())
            engine.finalize_object()
            _addresses.update((text, engine.get_function_address(f"f{i}")) for i, text in enumerate(new))
            engine.detach()  # the code stays until the process ends; disposing of it then fails now and again
        return [_addresses[text] for text in texts]


def product_routine(dtype: str) -> int | None:
    """The address of the matrix product of `float32` or `float64` in NumPy's OpenBLAS; its integers have 64 bits."""
    return blas_routine({"float32": "cblas_sgemm", "float64": "cblas_dgemm"}[dtype])


@functools.cache
def blas_routine(name: str) -> int | None:
    """The address of a function of the OpenBLAS that NumPy's wheel brings along, None without it."""
    folder = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "numpy.libs")
    symbol = f"scipy_{name}64_" if name.startswith("cblas") else f"scipy_openblas_{name}64_"
    for path in glob.glob(os.path.join(folder, "*openblas64*")):
        try:
            return ctypes.cast(getattr(ctypes.CDLL(path), symbol), ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None
