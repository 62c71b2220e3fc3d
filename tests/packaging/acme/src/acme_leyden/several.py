"""A strategy of several processes, on what leyden-strategies offers to anybody."""

from __future__ import annotations

from leyden_strategies import ProcessesStrategy

from acme_leyden.parts import WITNESSED


class AcmeProcesses(ProcessesStrategy):
    """Averages gradients one by one, before each step."""

    name = "acme_processes"

    def setup(self, module, precision) -> None:
        WITNESSED.append(f"strategy of rank {self.rank}")
        super().setup(module, precision)

    def bind_backward(self, precision):
        def backward(loss, *args, **kwargs):
            precision.backward(loss, *args, **kwargs)
            for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
                for parameter in group["params"]:
                    parameter.grad = self.all_reduce(parameter.grad, "mean")

        return backward

    def setup_optimizers(self, module, optimizers):
        self.optimizers = optimizers
        return optimizers

    def teardown(self, module) -> None:
        self.optimizers = []
        super().teardown(module)
