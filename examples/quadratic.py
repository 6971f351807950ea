"""The first program: minimise J(w) = w² - 10w + 25 by gradient descent, twice.

The second time the coefficients are data, so other coefficients need no other program.
Run: python examples/quadratic.py
"""

import numpy as np

import tinygrad_dl as tg


def descend(coefficients: np.ndarray, steps: int = 200, lr: float = 0.1) -> float:
    """Where gradient descent from w = 0 arrives on c₀w² + c₁w + c₂."""
    c = tg.tensor(coefficients)
    w = tg.tensor(0.0, dtype=np.float64, requires_grad=True, name="w")
    for _ in range(steps):
        cost = c[0] * w**2 + c[1] * w + c[2]
        cost.backward()
        with tg.no_grad():
            w -= lr * w.grad
        w.grad = None
    return w.item()


def main() -> None:
    w = tg.tensor(0.0, dtype=np.float64, requires_grad=True, name="w")
    optimizer = tg.optim.SGD([w], lr=0.1)
    for step in range(1, 201):
        cost = w**2 - 10 * w + 25
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        if step in (1, 10, 50, 200):
            print(f"step {step:3d}: w = {w.item():.6f}, cost = {cost.item():.1e}")
    for coefficients in ([1.0, -10.0, 25.0], [1.0, -20.0, 100.0], [2.0, 4.0, 0.0]):
        print(f"coefficients {coefficients}: w = {descend(np.array(coefficients)):.6f}")


if __name__ == "__main__":
    main()
