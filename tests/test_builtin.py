"""Machine code as a function of Python's own kind."""

from __future__ import annotations

import ctypes
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from tinygrad_dl.compiler.native.builtin import builtin, callable_code
from tinygrad_dl.compiler.native.engine import Compilation

SUM = """define i64 @NAME(ptr %first, ptr %second) {
  %a = load i64, ptr %first
  %b = load i64, ptr %second
  %sum = add i64 %a, %b
  store i64 %sum, ptr %second
  ret i64 %sum
}
"""
WAIT = """define i64 @NAME(ptr %first, ptr %second) {
entry:
  store atomic i64 1, ptr %first seq_cst, align 8
  br label %look
look:
  %i = phi i64 [0, %entry], [%next, %look]
  %next = add i64 %i, 1
  %seen = load atomic i64, ptr %second seq_cst, align 8
  %there = icmp ne i64 %seen, 0
  %over = icmp uge i64 %next, 10000000000
  %done = or i1 %there, %over
  br i1 %done, label %end, label %look
end:
  ret i64 %seen
}
"""


def made(text: str, first: int, release: bool = False):
    with Compilation() as compilation:
        code = callable_code(compilation, compilation.add(text), release)
        address = compilation.addresses([code])[0]
    return builtin(address, first)


def test_it_is_given_two_addresses_and_gives_a_number():
    numbers = np.array([2**40, -7], np.int64)
    add = made(SUM, numbers.ctypes.data)
    assert add(numbers.ctypes.data + 8) == 2**40 - 7
    assert add(numbers.ctypes.data + 8) == 2**41 - 7
    np.testing.assert_array_equal(numbers, [2**40, 2**41 - 7])


def test_two_functions_of_one_code_have_addresses_of_their_own():
    a, b, total = (np.array([n], np.int64) for n in (3, 40, 0))
    first, second = made(SUM, a.ctypes.data), made(SUM, b.ctypes.data)
    assert [first(total.ctypes.data), second(total.ctypes.data), first(total.ctypes.data)] == [3, 43, 46]


def test_no_reference_is_left_behind():
    numbers = np.array([2**40, 2**40], np.int64)
    bound, given = numbers.ctypes.data, numbers.ctypes.data + 8
    add = made(SUM, bound)
    before = sys.getrefcount(bound), sys.getrefcount(given)
    for _ in range(1000):
        add(given)
    assert (sys.getrefcount(bound), sys.getrefcount(given)) == before
    del add
    assert sys.getrefcount(bound) == before[0] - 1


def test_other_threads_run_meanwhile_if_they_are_to():
    begun, flag = ctypes.c_int64(0), ctypes.c_int64(0)

    def answer():
        while not begun.value:
            pass
        flag.value = 5

    thread = threading.Thread(target=answer)
    wait = made(WAIT, ctypes.addressof(begun), release=True)
    thread.start()
    assert wait(ctypes.addressof(flag)) == 5
    thread.join()
