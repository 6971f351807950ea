"""Write an operation, check it, and see a wrong one caught.

Run: python examples/custom_op.py
"""

import numpy as np

import tinygrad_dl as tg

# The kernel, and one rule: from the gradient g of the output y to the gradient of the argument x.
softsign = tg.primitive(
    lambda x: x / (1 + np.abs(x)),
    lambda g, y, x: g / np.square(1 + np.abs(x)),
    name="softsign",
    elementwise=True,
)

# The same with the square forgotten.
wrong = tg.primitive(
    lambda x: x / (1 + np.abs(x)),
    lambda g, y, x: g / (1 + np.abs(x)),
    name="wrong softsign",
    elementwise=True,
)


def main() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    print(tg.gradcheck(softsign, x, order=2))
    try:
        tg.gradcheck(wrong, x)
    except tg.GradcheckError as error:
        print(f"\nThe wrong one is caught:\n{error}")


if __name__ == "__main__":
    main()
