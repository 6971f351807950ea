"""Gradient descent, with momentum in three forms."""

from __future__ import annotations

from typing import Any, ClassVar

from .._tensor import Tensor
from .optimizer import Optimizer, signed, zeros


class SGD(Optimizer):
    """Stochastic gradient descent: w ← w - lr · g, or with momentum w ← w - lr · v.

    lr: learning rate. momentum: β of v ← βv + (1 - dampening)g, where v starts as g (PyTorch's form).
    averaging: v ← βv + (1 - β)g from v = 0, the exponentially weighted average of the gradients.
    nesterov: look ahead, g + βv (Sutskever et al. 2013). weight_decay: λ of g ← g + λw. maximize: climb.
    """

    needs: ClassVar = {"momentum": "momentum_buffer"}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        averaging: bool = False,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov, "averaging": averaging, "maximize": maximize})

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if group["nesterov"] and (not group["momentum"] or group["dampening"] or group["averaging"]):
            raise ValueError("SGD: nesterov needs momentum > 0, and neither dampening nor averaging")
        if group["averaging"] and (group["momentum"] >= 1 or group["dampening"]):
            raise ValueError("SGD: averaging needs momentum < 1 and no dampening")

    def init_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        return {"momentum_buffer": zeros(p)} if group["momentum"] else {}

    def constants(self, state: dict[str, Any], group: dict[str, Any]) -> dict[str, Any]:
        first = state["step"] == 1 and not group["averaging"]
        share = 1 - group["momentum"] if group["averaging"] else 1 - group["dampening"]
        return {"share": 1.0 if first else share}

    def update(self, p: Any, g: Any, state: dict[str, Any], o: dict[str, Any]) -> None:
        g = signed(p, g, o)
        if o["momentum"]:
            v = state["momentum_buffer"]
            v *= o["momentum"]
            v += o["share"] * g
            g = g + o["momentum"] * v if o["nesterov"] else v
        p -= o["lr"] * g
