"""`why` names each broken edge and what stops a gradient, and splits an element into parts that add up to it."""

import inspect

import numpy as np
import pytest

import tinygrad_dl as tg
from tinygrad_dl import nn
from tinygrad_dl.insight.detection import detect_nan
from tinygrad_dl.insight.why import why

F = np.float32


def leaf(values, name=None):
    return tg.tensor(np.asarray(values, F), requires_grad=True, name=name)


def here():
    """The line that calls this."""
    return inspect.currentframe().f_back.f_lineno


# no gradient


def test_a_detached_value_is_named_with_the_lines_that_made_it_cut_it_and_read_it():
    w, v = leaf([[1, 2], [3, 4]], "w"), leaf([1, 2])
    h, made = tg.tensor([[1.0, 1.0]]) @ w, here()
    d, cut = h.detach(), here()
    loss, read = (d * v).sum(), here()
    answer = why(w, loss)
    assert answer.verdict == "none"
    text = str(answer)
    assert "w, float32 (2, 2), has no gradient: the loss does not depend on it" in text
    for line in (f"multiply at test_why.py:{read},", f"matmul at test_why.py:{made},", f"d was set on line {cut}:"):
        assert line in text
    assert "`.detach()` takes it off the graph" in text
    assert "not recorded" not in text


def test_of_several_values_without_gradient_the_one_that_leads_to_the_tensor_is_named():
    w, v = leaf([1, 2], "w"), leaf([3, 4])
    h = w * 2
    noise = tg.tensor([0.5, 0.5])
    loss = (h.detach() * v + noise * v).sum()
    text = str(why(w, loss))
    assert "reads h.detach()" in text
    assert "noise" not in text.replace("noise * v).sum()", "")


def test_what_was_computed_under_no_grad_is_named_by_the_text_of_the_program():
    w, v = leaf([1, 2], "w"), leaf([3, 4])
    with tg.no_grad():
        h, line = w * 2, here()
    loss = (h * v).sum()
    text = str(why(w, loss))
    assert f"h was set on line {line}:" in text
    assert "computed under no_grad" in text
    assert "not recorded" in text  # that h came from w
    assert "computed under no_grad" in str(why(h))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("h = (w * 2).astype(int)", "integers and booleans have no gradient"),
        ("h = (w * 2).astype('int64').astype('float32')", "integers and booleans have no gradient"),
        ("h = w > 1", "a comparison has no derivative"),
        ("h = np.argmax(w)", "an index has no derivative"),
        ("h = tg.tensor(w)", "`tensor` copies values"),
        ("h = tg.tensor(w.detach().numpy() * 2)", "`tensor` copies values"),
        ("h = (w.detach() * 2)", "`.detach()` takes it off the graph"),
        ("h = tg.tensor((w * 2).sum().item())", "`tensor` copies values"),
    ],
)
def test_the_program_text_tells_why_a_value_has_no_gradient(code, reason, tmp_path):
    file = tmp_path / "user.py"
    file.write_text(f"def f(w):\n    {code}\n    return why(h)\n")
    names = {"np": np, "tg": tg, "why": why}
    exec(compile(file.read_text(), str(file), "exec"), names)
    answer = names["f"](leaf([1, 2]))
    assert answer.verdict == "none"
    assert f"h was set on line 2: {code}" in str(answer)
    assert reason in str(answer)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("((w * 3).astype(int) * v).sum()", "reads (w * 3).astype(int), without gradient\n    integers and booleans"),
        ("((w > 1.5) * v).sum()", "reads w > 1.5, without gradient\n    a comparison has no derivative"),
        ("v[np.argmax(w)]", "getitem at user.py:1, in <module>: loss = v[np.argmax(w)] reads np.argmax(w), without"),
        ("v[:np.argmax(w)].sum()", "reads np.argmax(w), without gradient\n    an index has no derivative"),
        ("(v * w.sum().item()).sum()", "reads w.sum().item(), without gradient\n    `.item()` gives a plain number"),
        ("v.clip(0, max=w.sum().item()).sum()", "clip at user.py:1"),
        ("tg.tensor((w**2).detach().numpy(), requires_grad=True).sum()", "has the values of (w ** 2).detach().numpy()"),
    ],
)
def test_whole_numbers_indices_numbers_and_new_leaves_are_cuts_too(code, says, tmp_path):
    file = tmp_path / "user.py"
    file.write_text(f"loss = {code}\n")
    names = {"np": np, "tg": tg, "w": leaf([1, 2], "w"), "v": leaf([3, 4])}
    exec(compile(file.read_text(), str(file), "exec"), names)
    answer = str(why(names["w"], names["loss"]))
    assert says in answer
    assert "never used" not in answer


def test_labels_are_no_cut():
    w, x = leaf([1.0]), leaf([[1, 2], [3, 4]])
    labels = np.array([0, 1])
    answer = str(why(w, nn.functional.cross_entropy(x, labels)))
    assert "labels, without" not in answer
    assert "never used in the loss's graph, or was cut off before it" in answer


def test_a_frozen_parameter_says_so():
    model = nn.Linear(2, 2)
    model.requires_grad_(False)
    assert "frozen" in str(why(next(iter(model.parameters()))))


def test_where_nothing_tells_it_says_that_nothing_is_recorded():
    names = {"np": np, "tg": tg, "why": why, "w": leaf([1.0])}
    exec("h = w.detach()\nanswer = why(h)", names)
    assert "which of these is not recorded" in str(names["answer"])


def test_never_used_and_used_without_backward_and_kept_results():
    w, v = leaf([1, 2], "w"), leaf([3, 4], "v")
    assert "no operation whose result is still alive has used it" in str(why(w))
    loss, line = (v * 2).sum(), here()
    assert f"multiply at test_why.py:{line}" in str(why(v))
    assert "never used" in str(why(w, loss))
    late = leaf([1.0])
    assert "only after the loss was computed" in str(why(late, loss))
    assert "retain_grad()" in str(why(v * 2))
    assert "because the loss has none" in str(why(v, loss.detach()))


# a gradient of zero

ZERO = {
    "np.tanh(x * 100).sum()": "tanh, at {}: saturated: for inputs from -300 to 200",
    "nn.functional.sigmoid(x * 1e3).sum()": "sigmoid, at {}: saturated",
    "nn.functional.relu(-np.abs(x)).sum()": "relu, at {}: 3 of 3 units are dead",
    "np.floor(x).sum()": "floor, at {}: a step function",
    "np.where(x > 9, x * 2, 1).sum()": "where, at {}: it does not use these",
    "np.maximum(x, 9).sum()": "maximum, at {}: it chose other elements",
    "np.clip(x, 8, 9).sum()": "clip, at {}: it chose other elements",
    "(x * np.zeros(3, np.float32)).sum()": "multiply, at {}: it is multiplied by 0: 3 of 3 elements of a constant",
    "(x * 1e-30 * 1e-30).sum()": "multiply, at {}: underflow",
    "(x - x).sum()": "subtract, at {}: the gradient along this path is not zero",
    "(np.sin(x)[:0]).sum()": "getitem, at {}: it does not use these elements",
}


@pytest.mark.parametrize(("code", "reason"), ZERO.items())
def test_says_what_stops_the_gradient(code, reason, tmp_path):
    file = tmp_path / "user.py"
    file.write_text(f"loss = {code}\n")
    names = {"np": np, "nn": nn, "x": leaf([1, 2, -3], "x")}
    exec(compile(file.read_text(), str(file), "exec"), names)
    answer = why(names["x"], names["loss"])
    assert answer.verdict == "zero"
    assert reason.format(f"user.py:1, in <module>: loss = {code}") in str(answer)
    names["loss"].backward()
    assert not names["x"].grad.data.any()


def test_of_some_elements_only_those_are_explained():
    x = leaf([1, 2, 3])
    answer = why(x, np.max(x))
    assert answer.verdict == "partly zero"
    assert "0 in 2 of 3 elements" in str(answer)
    assert "it chose other elements" in str(answer)
    answer = why(x, (x * x).sum())
    assert answer.verdict == "nonzero"
    assert f"norm {np.linalg.norm(2 * x.data):.4g}" in str(answer)


def test_a_norm_is_taken_in_float64_and_nan_points_to_detect_nan():
    u = leaf([1e-30, 1e-30])
    assert "norm 1.414e-40; no element of it is 0" in str(why(u, (u * 1e-30 * 1e-10).sum()))
    answer = str(why(u, (u * leaf([np.nan, 1])).sum()))
    assert "has a gradient of which 1 of 2 elements are not finite" in answer
    assert "detect_nan" in answer
    assert "norm" not in answer


def network():
    tg.seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    parameters = dict(model.named_parameters())
    parameters["0.bias"].assign(np.array([-100, 0.5, -100], F))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(F)
    return model, parameters, x, np.array([0, 1, 0, 1, 1])


def test_dead_units_of_a_network_are_counted_in_their_layer():
    model, parameters, x, labels = network()
    loss = nn.functional.cross_entropy(model(tg.tensor(x)), labels)
    text = str(why(parameters["0.weight"], loss))
    assert "Sequential.0.weight, float32 (3, 4), has a gradient of 0 in 8 of 12 elements: 2 whole rows (0, 2)" in text
    assert "relu in layer Sequential.1" in text
    assert "2 of 3 units are dead" in text
    assert "multiplied by 0" in str(why(parameters["2.weight"], loss))


# one element


def test_the_parts_by_sample_are_the_gradients_of_each_sample_alone():
    model, parameters, x, labels = network()
    weight = parameters["0.weight"]
    answer = why(weight, nn.functional.cross_entropy(model(tg.tensor(x)), labels), (1, 2))
    alone = []
    for i in range(5):
        (g,) = tg.gradients(nn.functional.cross_entropy(model(tg.tensor(x[i : i + 1])), labels[i : i + 1]), weight)
        alone.append(g.data[1, 2] / 5)
    np.testing.assert_allclose([p.value for p in answer.samples], alone, rtol=1e-4, atol=1e-8)
    assert [p.label for p in answer.samples] == [f"sample {i}" for i in range(5)]
    (path,) = answer.paths
    assert path.label.startswith("linear > relu > linear > cross_entropy, first at test_why.py")
    np.testing.assert_allclose(path.value, sum(alone), rtol=1e-4)


def test_a_penalty_is_of_no_sample():
    model, parameters, x, labels = network()
    weight = parameters["2.weight"]
    loss = nn.functional.cross_entropy(model(tg.tensor(x)), labels) + nn.functional.l2_penalty([weight], 0.5)
    answer = why(weight, loss, (0, 1))
    assert answer.samples[-1].label == "of no sample"
    np.testing.assert_allclose(answer.samples[-1].value, 0.5 * weight.data[0, 1], rtol=1e-5)
    (g,) = tg.gradients(loss, weight)
    np.testing.assert_allclose(sum(p.value for p in answer.samples), g.data[0, 1], rtol=1e-5)


def test_the_parts_by_path_are_those_of_the_formula():
    x = leaf([1, 2])
    loss = (x * x + np.sin(x)).sum()
    answer = why(x, loss, 1)
    found = {p.label.split(",")[0]: p.value for p in answer.paths}
    wanted = {
        "multiply (operand 0) > add > sum": 2,
        "multiply (operand 1) > add > sum": 2,
        "sin > add > sum": np.cos(2),
    }
    assert found == pytest.approx(wanted)
    assert answer.samples == ()


def test_a_matrix_that_is_transposed_first_and_results_of_several_parts_are_split_too():
    rng = np.random.default_rng(0)
    w, x = leaf(rng.normal(size=(3, 3))), rng.normal(size=(3, 3)).astype(F)
    loss = np.square(x @ w.T).mean()
    answer = why(w, loss, (0, 2))
    y = x @ w.data.T
    np.testing.assert_allclose([p.value for p in answer.samples], 2 * y[:, 0] * x[:, 2] / 9, rtol=1e-5)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    first = next(iter(model.parameters()))
    loss = np.square(model(tg.tensor(x))).mean()
    answer = why(first, loss, (1, 1))
    (g,) = tg.gradients(loss, first)
    np.testing.assert_allclose(sum(p.value for p in answer.samples), g.data[1, 1], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(sum(p.value for p in answer.paths), g.data[1, 1], rtol=1e-3, atol=1e-6)


RNG = np.random.default_rng(0)
DATA, LABELS, MASK = RNG.normal(size=(4, 3)), np.array([0, 1, 2, 0]), np.array([1.0, 1.0, 0.0])
W, SQUARE, V = (RNG.normal(size=shape) for shape in ((4, 3), (3, 3), (3, 4)))
CE = nn.functional.cross_entropy

OF_SAMPLES = {  # the loss of some samples, and the weights
    "a mask over as many rows": (lambda w, i: CE(np.tanh(DATA[i] @ (w * MASK).T) @ V.T, LABELS[i]), W),
    "tied over time": (lambda w, i: CE(np.tanh(np.tanh(DATA[i] @ w) @ w), LABELS[i]), SQUARE),
    "tied autoencoder": (lambda w, i: np.square(np.maximum(DATA[i] @ w.T, 0) @ w - DATA[i]).mean(), W),
    "an embedding": (lambda w, i: CE(np.tanh(w[LABELS[i]]) @ V[:, :3], LABELS[i]), SQUARE),
    "concatenated": (
        lambda w, i: CE(np.concatenate([DATA[i], DATA[i] @ w], axis=1) @ np.ones((6, 3)) * DATA[i], LABELS[i]),
        SQUARE,
    ),
    "two heads": (lambda w, i: CE(DATA[i] @ w, LABELS[i]) + np.square(DATA[i] @ w.T).mean(), SQUARE),
    "the second factor": (lambda w, i: CE(DATA[i] @ W.T @ np.tanh(w), LABELS[i]), W),
}


@pytest.mark.parametrize(("loss", "values"), OF_SAMPLES.values(), ids=OF_SAMPLES)
def test_samples_are_those_of_the_batch_whatever_the_sizes(loss, values):
    w = tg.tensor(values, requires_grad=True)
    answer = why(w, loss(w, slice(None)), (1, 2))
    alone = [tg.gradients(loss(w, slice(k, k + 1)), w)[0].data[1, 2] / 4 for k in range(4)]
    np.testing.assert_allclose([part.value for part in answer.samples], alone, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        lambda w: ((DATA @ w).mean(axis=0) * MASK).sum(),  # three rows, of classes
        lambda w: np.square(w * DATA[:3]).mean(),
        lambda w: CE((DATA @ w)[::-1], LABELS),
        lambda w: CE(DATA @ w, LABELS) + np.square(DATA[:2] @ w).mean(),
        lambda w: CE(DATA @ w, LABELS) + np.square(-DATA @ w).mean(),  # other data
        lambda w: CE(DATA @ w, LABELS) * np.square(w).sum() + (w * (DATA @ V[:, :3]).sum()).sum(),
        lambda w: CE((DATA.reshape(2, 2, 3) @ w).reshape(4, 3), LABELS),
    ],
)
def test_where_the_rows_are_not_surely_the_samples_there_is_no_split(loss):
    w = leaf(SQUARE)
    answer = why(w, loss(w), (0, 0))
    assert answer.samples == ()
    assert "by samples: undecided" in str(answer)


def test_very_many_paths_are_told_apart_by_their_first_operation():
    x = leaf([0.5])
    y = x * 1.0
    for _ in range(8):
        y = y + np.sin(y)
    loss = (y + x).sum()
    answer = why(x, loss, 0)
    assert [p.label.split(",")[0] for p in answer.paths] == ["multiply", "add"]
    (g,) = tg.gradients(loss, x)
    np.testing.assert_allclose(sum(p.value for p in answer.paths), g.data[0], rtol=1e-5)


def test_a_long_graph_is_no_problem():
    x = leaf([1.0])
    y = x
    for _ in range(3000):
        y = y + 0.001
    answer = why(x, (y * 0.0).sum())
    assert "multiplied by 0" in str(answer)
    assert why(x, (y * 2).sum(), 0).paths[0].value == 2


def test_nothing_changes():
    x = leaf([1, 2])
    h = x * 3
    h.retain_grad()
    loss = (h * h).sum()
    with detect_nan():
        why(x, loss, 0)
    assert x.grad is None
    assert h.grad is None
    loss.backward()
    np.testing.assert_array_equal(x.grad.data, 18 * x.data)


def test_wrong_calls_are_refused():
    x = leaf([1, 2])
    loss = (x * x).sum()
    with pytest.raises(TypeError, match="expected a Tensor for t, got 3"):
        why(3)
    with pytest.raises(TypeError, match="pass the loss"):
        why(x, index=0)
    with pytest.raises(IndexError, match=r"one element of a tensor of shape \(2,\), got 2"):
        why(x, loss, 2)
    with pytest.raises(IndexError, match=r"one element of a tensor of shape \(2,\), got slice\(0, 1, None\)"):
        why(x, loss, slice(0, 1))
    with pytest.raises(
        ValueError, match=r"why: expected a loss of one element, got shape \(2,\); take its sum or mean"
    ):
        why(x, x * x)
    loss.backward()
    with pytest.raises(RuntimeError, match=r"(?s)a second time.*retain_graph=True"):
        why(x, loss)
    assert "0 of 2 elements are 0" in str(why(x))


# errors of the engine that use the same knowledge


def test_an_error_of_shapes_names_the_layer_and_the_line():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"(?s)linear in layer Sequential\.1.*test_why\.py.*# the call"):
        model(tg.tensor(np.ones((1, 3))))  # the call
    with pytest.raises(ValueError, match=r"(?s)add: .*test_why\.py.*# the sum"):
        leaf([1, 2]) + np.ones(3)  # the sum
