"""Modules: how state is found, named, saved, loaded, frozen, shared, copied and called."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.scope import current


class Odd(nn.Module):
    """State in every place where it may stand, and Tensors that are none."""

    def __init__(self):
        self.w = nn.Parameter([1.0, 2.0])
        self.frozen = nn.Parameter([3.0], requires_grad=False)
        self.leaf = tg.tensor([4.0], requires_grad=True)
        self.count = nn.Buffer(0)
        self.layers = [nn.Linear(2, 2), nn.Linear(2, 2, bias=False)]
        self.named = {"a": nn.Parameter([5.0]), "b": (nn.Buffer([6.0]),), 3: nn.Parameter([9.0])}
        self.cached = tg.tensor([7.0])
        self.results = [self.w * 2]
        self.parent = self

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x * self.w


@pytest.fixture
def odd():
    return Odd()


NAMES = ["w", "frozen", "leaf", "layers.0.weight", "layers.0.bias", "layers.1.weight", "named.a"]


def test_one_ordered_walk_finds_the_state(odd):
    assert [n for n, _ in odd.named_parameters()] == NAMES
    assert [n for n, _ in odd.named_buffers()] == ["count", "named.b.0"]
    assert [n for n, _ in odd.named_modules()] == ["", "layers.0", "layers.1"]
    assert [m for m in odd.children() if m is not odd] == odd.layers
    assert list(odd.state_dict()) == [*NAMES[:3], "count", *NAMES[3:], "named.b.0"]


def test_freezing_changes_no_names(odd):
    before = list(odd.state_dict())
    odd.requires_grad_(False)
    odd.leaf.requires_grad = True
    assert list(odd.state_dict()) == before
    assert not odd.w.requires_grad


def test_tied_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    assert [n for n, _ in model.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    state = model.state_dict()
    assert "1.weight" in state
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[1].weight
    assert twin[0].weight is not model[0].weight
    state["1.weight"] = tg.tensor(np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"0\.weight and 1\.weight are one tensor"):
        model.load_state_dict(state)


def test_state_dicts_do_not_follow_training(odd):
    state = odd.state_dict()
    with tg.no_grad():
        odd.w += 1
    assert state["w"].tolist() == [1, 2]


def test_loading_writes_in_place(odd):
    state = {n: np.full(t.shape, 8, t.dtype) for n, t in odd.state_dict().items()}
    w = odd.w
    assert odd.load_state_dict(state) is odd
    assert odd.w is w
    assert all((t.numpy() == 8).all() for t in odd.state_dict().values())


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda s: s.pop("w"), KeyError, "no value for 'w'"),
        (lambda s: s.update(extra=np.ones(1)), KeyError, "no place for 'extra'"),
        (
            lambda s: s.update({"layers.0.wieght": s.pop("layers.0.weight")}),
            KeyError,
            r"did you mean 'layers\.0\.wieght'",
        ),
        (lambda s: s.update({"named.a": np.ones(2)}), ValueError, r"named\.a: expected shape \(1,\), got \(2,\)"),
        (lambda s: s.update({"named.a": np.ones(1, complex)}), TypeError, "complex128"),
    ],
)
def test_a_failed_load_changes_nothing(odd, change, error, match):
    state = {n: np.full(t.shape, 8, t.dtype) for n, t in odd.state_dict().items()}
    change(state)
    before = {n: t.tolist() for n, t in odd.state_dict().items()}
    with pytest.raises(error, match=match):
        odd.load_state_dict(state)
    assert {n: t.tolist() for n, t in odd.state_dict().items()} == before


def test_loading_what_matches(odd):
    odd.load_state_dict({"w": np.array([9.0, 9.0]), "other": np.ones(3)}, strict=False)
    assert odd.w.tolist() == [9, 9]


def test_modes():
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.BatchNorm1d(2)))
    assert model.training
    assert model.eval() is model
    assert [m.training for m in model.modules()] == [False] * 4
    assert model.train()[1][0].training


def test_astype_casts_in_place(odd):
    w, x = odd.w, np.ones((3, 2))
    odd.w.grad = [1.0, 1.0]
    odd.astype(np.float64)
    assert odd.w is w
    assert w.grad is None
    assert odd.count.dtype == np.int64
    y = odd(tg.tensor(x))
    y.sum().backward()
    assert y.dtype == w.grad.dtype == np.float64
    with pytest.raises(TypeError, match="floating dtype, got int32"):
        odd.astype(np.int32)


def test_apply_reaches_every_module_once():
    inner = nn.ReLU()
    model = nn.Sequential(nn.Sequential(inner), nn.Tanh(), inner)
    seen = []
    assert model.apply(seen.append) is model
    assert {id(m) for m in seen} == {id(m) for m in model.modules()}
    assert len(seen) == 4


def test_modules_can_be_pickled(odd):
    odd.parent = None
    odd.results = []
    odd(tg.tensor([[1.0, 2.0]]))
    twin = pickle.loads(pickle.dumps(odd))
    assert {n: t.tolist() for n, t in twin.state_dict().items()} == {n: t.tolist() for n, t in odd.state_dict().items()}
    assert not twin.frozen.requires_grad


def test_state_is_assigned_never_repointed():
    buffer, parameter = nn.Buffer([1.0]), nn.Parameter([1.0], requires_grad=False)
    for state in (buffer, parameter):
        with pytest.raises(RuntimeError, match="no_grad"):
            state += 1
        with tg.no_grad():
            state += 1
        assert state.item() == 2


@pytest.mark.parametrize("call", [lambda f: f, tg.compile], ids=["eager", "compiled"])
def test_tensors_can_be_exchanged_by_a_state_dict(call):
    """Each value is that from before the first write."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    first, second = (p.detach().numpy().copy() for p in model.parameters())
    exchange = call(lambda: model.load_state_dict({"0.weight": model[1].weight, "1.weight": model[0].weight}) and None)
    for times in range(1, 4):
        exchange()
        expected = (second, first) if times % 2 else (first, second)
        for p, value in zip(model.parameters(), expected, strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), value)


def test_functional_call_uses_other_state_and_restores(odd):
    model = nn.Linear(2, 1)
    before = model.weight.detach().tolist()
    w = tg.tensor([[1.0, 2.0]], requires_grad=True)
    y = nn.functional_call(model, {"weight": w * 2, "bias": np.array([3.0], np.float32)}, tg.tensor([[1.0, 1.0]]))
    assert y.item() == 9
    y.sum().backward()
    assert w.grad.tolist() == [[2, 2]]
    assert model.weight.tolist() == before
    assert model.weight.grad is None
    with pytest.raises(KeyError, match="nothing"):
        nn.functional_call(model, {"nothing": w}, w)
    with pytest.raises(ValueError, match="features"):
        nn.functional_call(model, {"weight": w}, tg.tensor([[1.0]]))
    assert model.weight.tolist() == before
    assert model.weight.is_leaf


def test_gradients_of_a_model_as_a_function():
    from tinygrad_dl.transforms import grad

    model = nn.Linear(2, 1)
    x = tg.tensor([[1.0, 5.0]])
    g = grad(lambda state: nn.functional_call(model, state, x).sum())(model.state_dict())
    assert g["weight"].tolist() == [[1, 5]]
    assert g["bias"].tolist() == [1]


class Spy(nn.Module):
    def forward(self, x):
        self.seen = str(current().path)
        return x


def test_paths_name_the_running_module():
    spies = [Spy() for _ in range(3)]

    class Net(nn.Module):
        def __init__(self):
            self.first = spies[0]
            self.blocks = [{"inner": spies[1]}, nn.Sequential(nn.Identity(), spies[2])]

        def forward(self, x):
            return self.blocks[1](self.blocks[0]["inner"](self.first(x)))

    Net()(1)
    assert [s.seen for s in spies] == ["Net.first", "Net.blocks.0.inner", "Net.blocks.1.1"]
    spies[2](1)
    assert spies[2].seen == "Spy"
    assert current().path is None


def test_paths_are_per_thread():
    models = [nn.Sequential(nn.Identity(), Spy()) for _ in range(8)]

    def work(model):
        return [(model(1), model[1].seen)[1] for _ in range(100)]

    with ThreadPoolExecutor(8) as pool:
        for seen in pool.map(work, models):
            assert set(seen) == {"Sequential.1"}


def test_checkpointed_batch_norm_counts_a_batch_once():
    from tinygrad_dl.checkpointing import checkpoint

    x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    results = []
    for call in (lambda f, *a: f(*a), checkpoint):
        tg.seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
        (call(model, tg.tensor(x)) ** 2).sum().backward()
        results.append([p.grad.tolist() for p in model.parameters()] + [b.tolist() for b in model.buffers()])
    assert results[0] == results[1]
    assert results[1][-1] == 1


def test_repr_is_a_tree():
    text = repr(nn.Sequential(nn.Linear(2, 3, bias=False), nn.Sequential(nn.ReLU(), nn.Dropout(0.1, scale="test"))))
    assert text.splitlines() == [
        "Sequential(",
        "  (0): Linear(2, 3, bias=False)",
        "  (1): Sequential(",
        "    (0): ReLU()",
        "    (1): Dropout(p=0.1, scale='test')",
        "  )",
        ")",
    ]


def test_sequential_is_a_list():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert len(model) == 3
    assert isinstance(model[-1], nn.Linear)
    assert [type(m).__name__ for m in model[:2]] == ["Linear", "ReLU"]
    model[1] = nn.Tanh()
    assert isinstance(list(model)[1], nn.Tanh)


def test_summary_counts_and_leaves_everything_alone():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.5)), nn.Linear(2, 1))
    tg.seed(0)
    before = tg.random.state()
    table = nn.summary(model, tg.tensor(np.ones((5, 3), np.float32)))
    assert table.total == table.trainable == 29  # the recipe's 3-4-2-1 network
    assert tg.random.state() == before
    rows = {name: (kind, shape, count) for name, kind, shape, count in table.rows}
    assert rows["2.0"] == ("Linear", "(5, 2)", 10)
    assert rows["(model)"] == ("Sequential", "(5, 1)", 0)
    assert "29 parameters" in repr(table)
    norm = nn.BatchNorm1d(3)
    nn.summary(norm, tg.tensor(np.ones((5, 3), np.float32)))
    assert norm.num_batches_tracked.item() == 0
    with pytest.raises(TypeError, match=r"expected a Module, such as Linear\(3, 2\), got <class"):
        nn.summary(nn.Linear, np.ones((1, 3)))


def test_forward_must_be_defined():
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


@pytest.mark.parametrize("state", ["model.npz", None, [1], nn.Linear(2, 2)])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(TypeError, match=r"Linear.load_state_dict: expected a dict of arrays by name"):
        nn.Linear(2, 2).load_state_dict(state)
