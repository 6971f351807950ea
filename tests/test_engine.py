"""Texts of LLVM functions as machine code: on several threads, called by each other, and what is wrong with one."""

import ctypes
import threading

import pytest

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native import engine
from tinygrad_dl.compiler.native.engine import Compilation

PLUS = "define i64 @NAME(i64 %x) {{\nentry:\n  %y = add i64 %x, {}\n  ret i64 %y\n}}\n"


def function(address):
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)


def test_functions_are_compiled_once_and_found_again():
    with Compilation() as compilation:
        symbols = [compilation.add(PLUS.format(1000 + n)) for n in (1, 2, 3, 2)]
        addresses = compilation.addresses(symbols)
    assert [function(a)(5) for a in addresses] == [1006, 1007, 1008, 1007]
    assert len(set(symbols)) == 3
    with Compilation() as again:
        assert again.addresses([again.add(PLUS.format(1001))]) == addresses[:1]
        assert not again._helpers, "there was nothing to compile"


def test_a_function_calls_another_by_its_symbol_even_one_of_an_earlier_compilation():
    with Compilation() as compilation:
        inner = compilation.add(PLUS.format(2000))
        compilation.addresses([inner])
    text = f"define i64 @NAME(i64 %x) {{\nentry:\n  %y = call i64 @{inner}(i64 %x)\n  ret i64 %y\n}}\n"
    with Compilation() as compilation:
        (address,) = compilation.addresses([compilation.add(text, [f"declare i64 @{inner}(i64)"])])
    assert function(address)(7) == 2007


def test_what_is_wrong_with_a_text_is_raised_and_does_no_harm():
    with Compilation() as compilation:
        wrong = compilation.add("define i64 @NAME(i64 %x) {\nentry:\n  ret i32 %x\n}\n")
        right = compilation.add(PLUS.format(3000))
        with pytest.raises(RuntimeError, match="ret i32"):
            compilation.addresses([right, wrong])
    with Compilation() as compilation:
        (address,) = compilation.addresses([compilation.add(PLUS.format(3000))])
    assert function(address)(1) == 3001
    assert not any(thread.name == "tinygrad_dl compiler" for thread in threading.enumerate())


def test_an_error_in_between_leaves_no_thread_waiting():
    def fail():
        with Compilation() as compilation:
            compilation.add(PLUS.format(4000))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not any(thread.name == "tinygrad_dl compiler" for thread in threading.enumerate())


def test_threads_may_compile_the_same_at_once():
    found = []

    def work():
        with Compilation() as compilation:
            symbols = [compilation.add(PLUS.format(5000 + n)) for n in range(6)]
            found.append([function(a)(n) for n, a in enumerate(compilation.addresses(symbols))])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[5000, 5002, 5004, 5006, 5008, 5010]] * 4


def test_without_the_inside_of_llvmlite_code_is_the_same(monkeypatch):
    machine = engine._machine()
    direct = engine._object("fsame", PLUS.format(6000), machine)
    emitted = []
    original = type(machine).emit_object
    monkeypatch.setattr(type(machine), "emit_object", lambda self, m: emitted.append(original(self, m)) or emitted[-1])

    class Plain:
        def __init__(self, function):
            self.function = function

        def __call__(self, *arguments):
            return self.function(*arguments)

    names = engine.llvm.ffi.lib._fntab
    monkeypatch.setitem(names, "LLVMPY_TargetMachineEmitToMemory", Plain(names["LLVMPY_TargetMachineEmitToMemory"]))
    assert engine._object("fsame", PLUS.format(6000), machine) == direct == emitted[0]
