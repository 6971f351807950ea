"""`functions`: text of LLVM functions as machine code in this process, each distinct text compiled once, several at a
time on as many threads as there are cores."""

from __future__ import annotations

import ctypes
import functools
import glob
import hashlib
import os
import platform
import threading
from collections.abc import Sequence
from typing import Any

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


def functions(texts: Sequence[str], declares: Sequence[str], kept: bool = False) -> list[int]:
    """The addresses of functions. Each text defines `@NAME`, and helpers of its own with names that begin so.

    declares: the intrinsics that they call. kept: keep them on disk, see `store`; not for texts that name addresses,
    which are others in the next process."""
    with _lock:
        new = [text for text in dict.fromkeys(texts) if text not in _addresses]
        if new:
            engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())  # which it frees
            for code in _compiled(new, declares, kept):
                engine.add_object_file(llvm.ObjectFileRef.from_data(code))
            engine.finalize_object()
            _addresses.update((text, engine.get_function_address(_symbol(text))) for text in new)
            engine.detach()  # the code stays until the process ends; disposing of it then fails now and again
        return [_addresses[text] for text in texts]


def _compiled(texts: Sequence[str], declares: Sequence[str], kept: bool) -> list[bytes]:
    """Object code of each text: 0.32 s on one thread, 0.17 on two, for a training step of three layers."""
    found: dict[str, bytes] = {}
    failed: list[Exception] = []
    waiting = sorted(texts, key=len)

    def work() -> None:
        try:
            machine = _machine()
            while waiting and not failed:
                text = waiting.pop()
                found[text] = _object(text, declares, machine, kept)
        except IndexError:
            return  # another thread took the last one
        except Exception as error:
            failed.append(error)

    helpers = [threading.Thread(target=work) for _ in range(min(_cores(), len(texts)) - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failed:
        raise failed[0]
    return [found[text] for text in texts]


def _object(text: str, declares: Sequence[str], machine: Any, kept: bool) -> bytes:
    triple, cpu, features = _host()
    store = Store(triple, cpu, features, llvmlite.__version__, str(llvm.llvm_version_info), _ATTRIBUTES, text)
    code = store.read() if kept else None
    if code is None:
        head = f'target triple = "{triple}"\ntarget datalayout = "{machine.target_data}"\n'
        body = text.replace("@NAME", f"@{_symbol(text)}").replace(") {\n", ") #0 {\n")
        source = "\n".join([head, body, *declares, _ATTRIBUTES])
        with llvm.create_context() as context, llvm.parse_assembly(source, context) as module:
            code = _emit(machine, module)
        if kept:
            store.write(code)
    return code


def _emit(machine: Any, module: Any) -> bytes:
    """`machine.emit_object(module)` without llvmlite's lock, which lets one thread at a time into LLVM; with modules
    of contexts of their own they need not wait."""
    library = llvm.ffi.lib
    emit = getattr(library.LLVMPY_TargetMachineEmitToMemory, "_cfn", None)
    if emit is None:
        return bytes(machine.emit_object(module))
    with llvm.ffi.OutputString() as message:
        buffer = emit(machine, module, 1, message)
        if not buffer:
            raise RuntimeError(str(message))
    try:
        return ctypes.string_at(library.LLVMPY_GetBufferStart(buffer), library.LLVMPY_GetBufferSize(buffer))
    finally:
        library.LLVMPY_DisposeMemoryBuffer(buffer)


def _symbol(text: str) -> str:
    return "f" + hashlib.sha256(text.encode()).hexdigest()[:24]


@functools.cache
def _host() -> tuple[str, str, str]:
    """The triple, processor and features of this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def _machine() -> Any:
    triple, cpu, features = _host()
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=1, jit=True)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
