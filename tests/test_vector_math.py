"""Functions in LLVM IR, compiled for this processor, against mpmath, float64 and NumPy's special values."""

import ctypes
import inspect
import itertools
import math
from functools import cache

import mpmath as mp
import numpy as np
import pytest

from tinygrad_dl.compiler.native import vector_math
from tinygrad_dl.compiler.native.ir import Code, Lanes

pytest.importorskip("llvmlite")

import llvmlite.binding as llvm

from tinygrad_dl.compiler.native import engine

TOLERANCE = 4  # ulp
DTYPES = {"float": np.float32, "double": np.float64}
EDGES = {"float": (-149, 128), "double": (-1074, 1024)}  # exponents of the smallest and beyond the greatest number
SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0]
LOG = ((0.6, 1.6), (0.999, 1.001), (0, 1000))
EXP = ((-1, 1), (-0.35, 0.35), (-20, 20), (-110, 95), (-750, 712))
CIRCLE = ((-1, 1), (-8, 8), (-1e4, 1e4), (-1e9, 1e9))
FUNCTIONS = {  # name: (in NumPy, in mpmath, intervals to look at closely)
    "exp": (np.exp, mp.exp, EXP),
    "exp2": (np.exp2, lambda x: mp.power(2, x), (*EXP, (-1080, 1030))),
    "expm1": (np.expm1, mp.expm1, EXP),
    "log": (np.log, mp.log, LOG),
    "log2": (np.log2, lambda x: mp.log(x) / mp.log(2), LOG),
    "log10": (np.log10, mp.log10, LOG),
    "log1p": (np.log1p, mp.log1p, ((-1, 1), (-0.01, 0.01), (0, 1000))),
    "tanh": (np.tanh, mp.tanh, ((-1, 1), (-10, 10), (-20, 20))),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), lambda x: 1 / (1 + mp.exp(-x)), EXP),
    "sin": (np.sin, mp.sin, CIRCLE),
    "cos": (np.cos, mp.cos, CIRCLE),
    "erf": (np.vectorize(math.erf, otypes="d"), mp.erf, ((-1, 1), (-4.1, 4.1), (-6.2, 6.2))),
}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_kind = pytest.mark.parametrize("kind", DTYPES)
every_width = pytest.mark.parametrize("width", [64, 1])


def cast(source, target):
    """An `emit` that goes from lanes of a float kind to `source`, to `target` and back."""

    def emit(code, lanes, x):
        kinds = [lanes, lanes.with_kind(source), lanes.with_kind(target), lanes]
        for a, b in itertools.pairwise(kinds):
            x = code.cast(a, b, x)
        return x

    return emit


def module_text(emit, kind, width, count, around=((), ())):
    """`map` applies what `emit` appends to `count` arrays of n numbers, n a multiple of the width; around: what it
    begins and ends with."""
    code, lanes = Code(), Lanes(kind, width)
    code.label("loop")
    i = code.let("phi i64 [ 0, %entry ], [ %next, %latch ]")
    pointers = [code.let(f"getelementptr {kind}, ptr %{p}, i64 {i}") for p in ["y", *map("x{}".format, range(count))]]
    y = emit(code, lanes, *[code.let(f"load {lanes.type}, ptr {p}, align 4") for p in pointers[1:]])
    code.do(f"store {lanes.type} {y}, ptr {pointers[0]}, align 4")
    code.do("br label %latch")
    code.label("latch")
    code.do(f"%next = add i64 {i}, {width}")
    code.do(f"br i1 {code.icmp('slt', Lanes('i64'), '%next', '%n')}, label %loop, label %end")
    parameters = ", ".join(["i64 %n", "ptr %y", *(f"ptr %x{k}" for k in range(count))])
    before, after = map("\n".join, around)
    body = f"entry:\n{before}\n  br label %loop\n{code.text()}\nend:\n{after}\n  ret void"
    declares = sorted({*code.declares, *(engine.CONTROLS if before else ())})
    return "\n".join([*declares, f"define void @map({parameters}) {{\n{body}\n}}"])


@cache
def compiled(emit, kind, width, around=((), ())):
    """What `emit`, or the function of `vector_math` of this name, appends, as a function of arrays."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    emit = getattr(vector_math, emit) if isinstance(emit, str) else emit
    count = len(inspect.signature(emit).parameters) - 2
    module = llvm.parse_assembly(module_text(emit, kind, width, count, around))
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=llvm.get_host_cpu_name(), features=features)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(None, ctypes.c_int64, *[ctypes.c_void_p] * (count + 1))
    function = signature(engine.get_function_address("map"))

    def call(*arrays, engine=engine):  # the code lives as long as its engine
        size = -(-arrays[0].size // 64) * 64
        padded = [np.resize(a, size).astype(DTYPES[kind]) for a in arrays]
        y = np.empty(size, DTYPES[kind])
        function(size, y.ctypes.data, *(a.ctypes.data for a in padded))
        return y[: arrays[0].size]

    return call


def points(name, kind, count):
    """Numbers of all magnitudes and both signs, and `count` from each interval to look at."""
    rng = np.random.default_rng(0)
    sizes = np.exp2(rng.uniform(*EDGES[kind], 2 * count))
    close = [rng.uniform(low, high, count) for low, high in FUNCTIONS[name][2]]
    x = np.concatenate([sizes, *close, -sizes] if "log" not in name else [sizes, *close, -sizes[sizes < 1]])
    return x.astype(DTYPES[kind])


def distances(y, exact):
    """From mpmath's numbers, rounded only now."""
    return np.array([abs(float(mp.mpf(a) - b)) for a, b in zip(y.tolist(), exact, strict=True)])


def defined(y):
    """Where the result is an ordinary number; where not, `test_special_values` compares."""
    return np.isfinite(y) & (np.abs(y) < np.finfo(y.dtype).max)


@every_width
@every_function
def test_float32_is_close_to_float64(name, width):
    x = points(name, "float", 20_000)
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name][0](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    y = compiled(name, "float", width)(x)
    use = defined(rounded)
    np.testing.assert_array_equal(y[~use], rounded[~use])
    assert use.sum() > 60_000
    assert (np.abs(y[use] - exact[use]) / np.spacing(np.abs(rounded[use]))).max() <= TOLERANCE


@cache
def by_mpmath(name):
    """Points, and a function there: in float64, where that is an ordinary number, and by mpmath."""
    x = points(name, "double", 400)
    with np.errstate(all="ignore"):
        rounded = FUNCTIONS[name][0](x)
    x, rounded = x[defined(rounded)], rounded[defined(rounded)]
    with mp.workprec(120):
        return x, rounded, [FUNCTIONS[name][1](mp.mpf(a)) for a in x.tolist()]


@every_width
@every_function
def test_float64_is_close_to_mpmath(name, width):
    x, rounded, exact = by_mpmath(name)
    assert len(x) > 1500
    with mp.workprec(120):
        distance = distances(compiled(name, "double", width)(x), exact)
    assert (distance / np.spacing(np.abs(rounded))).max() <= TOLERANCE


@every_width
@every_kind
@every_function
def test_special_values(name, kind, width):
    dtype = DTYPES[kind]
    info = np.finfo(dtype)
    tiny = [info.smallest_subnormal, 3 * info.smallest_subnormal, info.tiny, info.max, info.max / 3]
    ones = [np.nextafter(dtype(1), dtype(0)), np.nextafter(dtype(1), dtype(2))]
    x = np.array([*SPECIAL, *tiny, *ones, *np.negative(tiny), *np.negative(ones)], dtype)
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name][0](x.astype(np.float64)).astype(dtype)
    y = compiled(name, kind, width)(x)
    plain = defined(expected) & (expected != 0)
    np.testing.assert_array_equal(y[~plain], expected[~plain])
    np.testing.assert_array_equal(np.signbit(y[~np.isnan(y)]), np.signbit(expected[~np.isnan(y)]))
    assert (np.abs(y[plain] - expected[plain]) <= TOLERANCE * np.spacing(np.abs(expected[plain]))).all()


@every_width
@every_kind
@every_function
def test_the_smallest_and_largest_numbers_as_kernels_compute(name, kind, width):
    """Where what is denormal on the way is zero."""
    info = np.finfo(DTYPES[kind])
    ends = [*(info.tiny * np.array([1, 1.3, 2, 4.5, 9])), *(info.max / np.array([1, 1.3, 1.7, 2, 3, 5, 9]))]
    x = np.array([*ends, *np.negative(ends)], DTYPES[kind])
    with np.errstate(all="ignore"):
        expected = FUNCTIONS[name][0](x.astype(np.float64)).astype(DTYPES[kind])
    plain = defined(expected) & (np.abs(expected) >= info.tiny)
    assert plain.any()
    with mp.workprec(120):
        exact = [FUNCTIONS[name][1](mp.mpf(float(a))) for a in x[plain]]
        distance = distances(compiled(name, kind, width, engine.WITHOUT_DENORMALS)(x)[plain], exact)
    assert (distance <= TOLERANCE * np.spacing(np.abs(expected[plain]))).all()


@every_width
@every_kind
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_angles_close_to_quarter_turns(name, kind, width):
    """Where one of both nearly vanishes, up to the largest that is not left to the C library, and beyond."""
    turns = np.concatenate([np.arange(1, 300), np.exp2(np.linspace(8, 41, 200)).round()])
    with mp.workprec(200):
        x = np.array([float(n * mp.pi / 2) for n in turns]).astype(DTYPES[kind])
        x = np.concatenate([x, -x])
        exact = [FUNCTIONS[name][1](mp.mpf(float(a))) for a in x]
        scale = np.spacing(np.abs(np.array([float(e) for e in exact])).astype(DTYPES[kind]))
        assert (distances(compiled(name, kind, width)(x), exact) / scale).max() <= TOLERANCE


@every_kind
def test_powers_of_two_are_exact(kind):
    lowest, beyond = EDGES[kind]
    exponents = np.arange(lowest, beyond).astype(DTYPES[kind])
    powers = np.ldexp(DTYPES[kind](1), exponents.astype(int))
    np.testing.assert_array_equal(compiled("exp2", kind, 64)(exponents), powers)
    np.testing.assert_array_equal(compiled("log2", kind, 64)(powers), exponents)


@every_kind
@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh"])
def test_denormals_stay_what_they_are(name, kind):
    x = np.finfo(DTYPES[kind]).smallest_subnormal * np.arange(-50, 50)
    np.testing.assert_array_equal(compiled(name, kind, 64)(x), x)


@every_kind
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "erf"])
def test_no_result_is_beyond_the_limits(name, kind):
    x = np.linspace(0, 50, 100_000)
    assert compiled(name, kind, 64)(x).max() == 1
    assert compiled(name, kind, 64)(-x).min() >= (0 if name == "sigmoid" else -1)


@every_width
@every_kind
def test_logaddexp(kind, width):
    rng = np.random.default_rng(0)
    a = (rng.normal(size=2000) * 10.0 ** rng.uniform(-3, 3, 2000)).astype(DTYPES[kind])
    b = (a + rng.normal(size=2000) * 10.0 ** rng.uniform(-3, 2, 2000)).astype(DTYPES[kind])
    y = compiled("logaddexp", kind, width)(a, b)
    with mp.workprec(120):
        pairs = [(mp.mpf(p), mp.mpf(q)) for p, q in zip(a.tolist(), b.tolist(), strict=True)]
        distance = distances(y, [max(p, q) + mp.log1p(mp.exp(-abs(p - q))) for p, q in pairs])
    first = np.maximum(a, b)
    greatest = np.maximum.reduce(np.abs([y, first, y - first]))  # what is added up may cancel
    assert (distance / np.spacing(greatest)).max() <= TOLERANCE


@every_width
@every_kind
def test_logaddexp_of_special_values(kind, width):
    a, b = np.array(list(itertools.product(SPECIAL, SPECIAL)), DTYPES[kind]).T
    with np.errstate(all="ignore"):
        expected = np.logaddexp(a, b)
    np.testing.assert_array_max_ulp(compiled("logaddexp", kind, width)(a, b), expected, TOLERANCE)


@every_kind
@pytest.mark.parametrize("name", [*FUNCTIONS, "logaddexp"])
def test_nothing_is_called(name, kind):
    emit = getattr(vector_math, name)
    text = module_text(emit, kind, 16, len(inspect.signature(emit).parameters) - 2)
    declared = {line.split("@llvm.")[1].split(".")[0] for line in text.splitlines() if line.startswith("declare")}
    assert declared <= {"fma", "fabs", "copysign", *({name} & {"sin", "cos"})}  # these for large angles


CONSTANTS = [0.0, -0.0, 0.1, -1e-45, 1e-310, 3e38, 1e39, -1e300, 2.0**24 + 1, math.pi, math.inf, -math.inf, math.nan]


@every_width
@every_kind
@pytest.mark.parametrize("number", CONSTANTS)
def test_constants_are_rounded_as_numpy_rounds(number, kind, width):
    with np.errstate(over="ignore"):
        expected = DTYPES[kind](number)
    y = compiled(lambda code, lanes, x: code.select(lanes, code.fcmp("oeq", lanes, x, x), number, x), kind, width)
    np.testing.assert_array_equal(y(np.ones(1)), expected)
    assert np.signbit(y(np.ones(1)))[0] == np.signbit(expected)


@every_width
@every_kind
@pytest.mark.parametrize(
    ("source", "target", "numpy"),
    [
        ("float", "double", lambda x: x),
        ("double", "float", lambda x: x),
        ("i32", "i64", np.trunc),
        ("i64", "i8", np.trunc),
        ("i8", "i32", np.trunc),
        ("i1", "i32", lambda x: x != 0),
        ("i32", "i1", lambda x: np.trunc(x) != 0),
        ("double", "i1", lambda x: x != 0),
    ],
)
def test_casts(source, target, numpy, kind, width):
    x = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.75, 100.25, -128.0], DTYPES[kind])
    np.testing.assert_array_equal(compiled(cast(source, target), kind, width)(x), numpy(x))


def test_unknown_lanes_are_refused():
    with pytest.raises(ValueError, match="no lanes of kind 'i7'"):
        Lanes("i7")
