"""`Compilation`: text of LLVM functions as machine code in this process, each distinct text compiled once, on as many
threads as there are cores, while other texts are still written."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import threading
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from typing import Any, TypeVar

import llvmlite  # type: ignore[import-untyped]
import llvmlite.binding as llvm  # type: ignore[import-untyped]

from .calling import symbol, whole
from .store import Store

T = TypeVar("T")
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
_addresses: dict[str, int] = {}  # by symbol


class Compilation:
    """Some functions that are to be compiled, which is most of a first call (`python -m benchmarks fresh`).

    A text defines `@NAME`, and helpers of its own with names that begin so; it may call others by their symbols."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self._begun: set[str] = set()
        self._code: list[tuple[str, bytes]] = []
        self._failed: list[Exception] = []
        self._helpers: list[threading.Thread] = []

    def __enter__(self) -> Compilation:
        return self

    def __exit__(self, *_: object) -> None:
        self._wait()

    def add(self, text: str, declares: Iterable[str] = ()) -> str:
        """Begin with a function; its symbol. declares: what it calls."""
        text = whole(text, declares)
        name = symbol(text)
        if name not in _addresses and name not in self._begun:
            self._begun.add(name)
            self._queue.put((name, text))
            if len(self._helpers) < cores():
                self._helpers.append(threading.Thread(target=self._help, name="tinygrad_dl compiler"))
                self._helpers[-1].start()
        return name

    def addresses(self, symbols: Iterable[str]) -> list[int]:
        """Where functions begin, once all are there. Raises what LLVM has against a text."""
        self._wait()
        if self._failed:
            raise self._failed[0]
        if self._code:
            _apart(lambda: _load(self._code))
            self._code = []
        return [_addresses[symbol] for symbol in symbols]

    def _wait(self) -> None:
        for _ in self._helpers:
            self._queue.put(None)
        for helper in self._helpers:
            if helper.is_alive():  # not if Ctrl-C came while it was started: it ends by itself
                helper.join()
        self._helpers = []

    def _help(self) -> None:
        try:
            machine = _machine()
            while (work := self._queue.get()) is not None:
                self._code.append((work[0], _object(*work, machine)))
        except Exception as error:
            self._failed.append(error)


def _apart(work: Callable[[], T]) -> T:
    """The result of work on another thread. Ctrl-C ends Python's main thread anywhere, also where it has just taken
    llvmlite's lock; then nobody would ever get that again."""
    found: list[T] = []
    failed: list[Exception] = []

    def do() -> None:
        try:
            found.append(work())
        except Exception as error:
            failed.append(error)

    helper = threading.Thread(target=do, name="tinygrad_dl compiler")
    helper.start()
    helper.join()
    if failed:
        raise failed[0]
    return found[0]


def _load(code: Iterable[tuple[str, bytes]]) -> None:
    with _lock:
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine())  # which it frees
        for _, part in code:
            engine.add_object_file(llvm.ObjectFileRef.from_data(part))
        engine.finalize_object()
        for name, _ in code:
            _addresses[name] = engine.get_function_address(name)
            llvm.add_symbol(name, _addresses[name])
        engine.detach()  # the code stays until the process ends; disposing of it then fails now and again


def _object(symbol: str, text: str, machine: Any) -> bytes:
    """Object code, from the disk if it is kept there."""
    triple, cpu, features = _host()
    store = Store(triple, cpu, features, llvmlite.__version__, str(llvm.llvm_version_info), _ATTRIBUTES, text)
    code = store.read()
    if code is None:
        head = f'target triple = "{triple}"\ntarget datalayout = "{machine.target_data}"\n'
        body = text.replace("@NAME", f"@{symbol}").replace(") {\n", ") #0 {\n")
        source = "\n".join([head, body, _ATTRIBUTES])
        with llvm.create_context() as context, llvm.parse_assembly(source, context) as module:
            code = _emit(machine, module)
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


@functools.cache
def _host() -> tuple[str, str, str]:
    """The triple, processor and features of this machine."""

    def ask() -> tuple[str, str, str]:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()

    return _apart(ask)


def _machine() -> Any:
    triple, cpu, features = _host()
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=1, jit=True)


@functools.cache
def registers() -> tuple[int, int]:
    """How many bytes a vector register of this machine has, and how many of them there are."""
    features = set(_host()[2].split(","))
    if "+avx512f" in features:
        return 64, 32
    if "+avx2" in features:
        return 32, 16
    return 16, 16 if _X86 else 32


def processor() -> str:
    """What LLVM calls it, such as `znver5`."""
    return _host()[1]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def add_symbol(symbol: str, address: int) -> None:
    """Texts may call a function by this symbol."""
    _apart(lambda: llvm.add_symbol(symbol, address))
