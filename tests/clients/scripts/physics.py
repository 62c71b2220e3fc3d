"""Physics: PINA's physics-informed solver learns u' = u, u(0) = 1."""

import json
import warnings

import torch
from lightning.pytorch import seed_everything
from pina import Condition, Trainer
from pina.callback import MetricTracker, PINAProgressBar
from pina.domain import CartesianDomain
from pina.equation import Equation
from pina.equation.zoo import FixedValue
from pina.model import FeedForward
from pina.operator import grad
from pina.optim import TorchOptimizer
from pina.problem import SpatialProblem
from pina.solver import PINN

warnings.filterwarnings("ignore")
seed_everything(5)


def growth(input_, output_):
    return grad(output_, input_, components=["u"], d=["x"]) - output_.extract(["u"])


class Growth(SpatialProblem):
    output_variables = ["u"]
    spatial_domain = CartesianDomain({"x": [0, 1]})
    domains = {"start": CartesianDomain({"x": 0.0}), "inside": CartesianDomain({"x": [0, 1]})}
    conditions = {
        "start": Condition(domain="start", equation=FixedValue(1.0)),
        "inside": Condition(domain="inside", equation=Equation(growth)),
    }


problem = Growth()
problem.discretise_domain(1, "grid", domains="start")
problem.discretise_domain(20, "grid", domains="inside")
solver = PINN(
    problem,
    FeedForward(layers=[10, 10], func=torch.nn.Tanh, output_dimensions=1, input_dimensions=1),
    optimizer=TorchOptimizer(torch.optim.Adam, lr=0.02),
)
tracker = MetricTracker()
trainer = Trainer(
    solver=solver,
    max_epochs=60,
    accelerator="cpu",
    callbacks=[tracker, PINAProgressBar()],
    train_size=1.0,
    val_size=0.0,
    test_size=0.0,
    enable_model_summary=False,
    default_root_dir="runs",
    logger=True,
    log_every_n_steps=1,
)
trainer.train()
losses = tracker.metrics["train_loss"]
loaded = PINN.load_from_checkpoint(
    trainer.checkpoint_callback.best_model_path, problem=problem, model=solver.model, weights_only=False
)
points = problem.discretised_domains["inside"]
value = solver(points)
print(
    json.dumps(
        dict(
            before=losses[0].item(),
            after=losses[-1].item(),
            epochs=len(losses),
            steps=trainer.global_step,
            shape=list(value.shape),
            reloaded=bool(torch.allclose(loaded(points).tensor, value.tensor)),
            parameters=sum(p.double().abs().sum().item() for p in solver.parameters()),
        )
    )
)
