"""Schedules against PyTorch, and the recipe's worked numbers."""

import pytest

import tinygrad_dl as tg
from tinygrad_dl import optim
from tinygrad_dl.optim import lr_scheduler

CASES = [
    ("StepLR", {"step_size": 7, "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.95}),
    ("LambdaLR", {"lr_lambda": lambda n: 1 / (1 + n)}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 9}),
    ("CosineAnnealingLR", {"T_max": 60, "eta_min": 0.01}),
    ("CosineAnnealingLR", {"T_max": 20}),
    ("OneCycleLR", {"max_lr": 0.7, "total_steps": 70}),
    ("OneCycleLR", {"max_lr": 0.7, "total_steps": 61, "pct_start": 0.2, "div_factor": 10.0, "final_div_factor": 100.0}),
]


def optimizer(lr=0.2, groups=1):
    return optim.SGD([{"params": [tg.tensor([1.0], requires_grad=True)], "lr": lr * (i + 1)} for i in range(groups)])


@pytest.mark.parametrize(("kind", "options"), CASES)
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler")
def test_sixty_steps_equal_torchs(kind, options):
    torch = pytest.importorskip("torch")
    ours = optimizer(groups=2)
    theirs = torch.optim.SGD([{"params": [torch.ones(1, requires_grad=True)], "lr": 0.2 * (i + 1)} for i in range(2)])
    a = getattr(lr_scheduler, kind)(ours, **options)
    extra = {"cycle_momentum": False} if kind == "OneCycleLR" else {}
    b = getattr(torch.optim.lr_scheduler, kind)(theirs, **options, **extra)
    for _ in range(60):
        assert a.get_last_lr() == pytest.approx(b.get_last_lr(), rel=1e-12, abs=1e-15)
        theirs.step()
        a.step()
        b.step()


@pytest.mark.parametrize(("kind", "options"), [*CASES, ("ReduceLROnPlateau", {"patience": 1, "min_lr": 0.03})])
def test_scaled_rates_stay_scaled(kind, options):
    plain, scaled = (getattr(lr_scheduler, kind)(optimizer(groups=2), **options) for _ in range(2))
    metric = [1.0] if kind == "ReduceLROnPlateau" else []
    for n in range(40):
        if n == 7:
            scaled.scale(0.25)
        factor = 0.25 if n >= 7 else 1
        assert scaled.get_last_lr() == pytest.approx([factor * rate for rate in plain.get_last_lr()], rel=1e-12)
        plain.step(*metric)
        scaled.step(*metric)
    for wrong in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="scale: expected a factor > 0"):
            scaled.scale(wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"patience": 2, "factor": 0.5},
        {"mode": "max", "patience": 1, "cooldown": 2, "threshold": 0.05},
        {"threshold_mode": "abs", "threshold": 0.1, "patience": 0, "min_lr": 0.01},
        {"mode": "max", "threshold_mode": "abs", "patience": 3},
    ],
)
def test_plateau_equals_torchs(options):
    torch = pytest.importorskip("torch")
    metrics = [
        1.0,
        0.9,
        0.95,
        0.91,
        0.9,
        0.89,
        0.7,
        0.7,
        0.71,
        0.72,
        -0.1,
        -0.1,
        -0.2,
        0.0,
        0.1,
        0.1,
        0.1,
        0.1,
        0.2,
        0.1,
    ]
    ours = optimizer()
    theirs = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.2)
    a = lr_scheduler.ReduceLROnPlateau(ours, **options)
    b = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    for metric in metrics * 2:
        a.step(metric)
        b.step(metric)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


def rates(schedule, n):
    result = []
    for _ in range(n):
        result += schedule.get_last_lr()
        schedule.step()
    return result


def test_the_recipes_decay():
    """α₀ = 0.2, decay 1: epochs 1 to 4 give 0.1, 0.067, 0.05, 0.04."""
    found = rates(lr_scheduler.InverseTimeLR(optimizer(), decay=1.0), 5)
    assert found == pytest.approx([0.2, 0.2 / 2, 0.2 / 3, 0.2 / 4, 0.2 / 5])
    assert [round(r, 3) for r in found[1:]] == [0.1, 0.067, 0.05, 0.04]
    assert rates(lr_scheduler.ExponentialLR(optimizer(), 0.95), 3) == pytest.approx([0.2, 0.19, 0.1805])
    assert rates(lr_scheduler.InverseSqrtLR(optimizer(), k=0.5), 4)[3] == pytest.approx(0.5 / 2 * 0.2)


def test_state_dicts_continue():
    first = lr_scheduler.CosineAnnealingLR(optimizer(), T_max=10)
    for _ in range(4):
        first.step()
    second = lr_scheduler.CosineAnnealingLR(optimizer(), T_max=99)
    second.load_state_dict(first.state_dict())
    assert rates(first, 5) == rates(second, 5)
    with pytest.raises(ValueError, match="expected"):
        second.load_state_dict({"count": 3})


def test_impossible_schedules_are_refused():
    negative = lr_scheduler.LambdaLR(optimizer(), lambda n: 1 - n)
    negative.step()
    with pytest.raises(ValueError, match=r"would be -0\.2 at step 2"):
        negative.step()
    assert negative.get_last_lr() == [0]
    cycle = lr_scheduler.OneCycleLR(optimizer(), max_lr=1.0, total_steps=2)
    cycle.step()
    with pytest.raises(ValueError, match="beyond the 2"):
        cycle.step()
    with pytest.raises(ValueError, match="step_size"):
        lr_scheduler.StepLR(optimizer(), 0)
    with pytest.raises(ValueError, match="2 functions"):
        lr_scheduler.LambdaLR(optimizer(groups=2), [lambda n: 1.0])
    with pytest.raises(ValueError, match="number"):
        lr_scheduler.ReduceLROnPlateau(optimizer()).step(float("nan"))
    with pytest.raises(TypeError, match="Optimizer"):
        lr_scheduler.ExponentialLR(3, 0.9)
