"""Search of hyperparameters: optuna's callback for Lightning prunes trials that do not learn."""

import json
import warnings

import optuna
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from optuna_integration import PyTorchLightningPruningCallback

warnings.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


class Model(LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(batch[0]), batch[1]), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)


x = torch.linspace(-1, 1, 96).reshape(32, 3)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
rates = [0.2, 0.3, 1e-4, 1e-5]


def objective(trial):
    seed_everything(4)
    trainer = Trainer(
        max_epochs=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[PyTorchLightningPruningCallback(trial, monitor="val_loss")],
    )
    trainer.fit(Model(rates[trial.number]), loader, loader)
    return trainer.callback_metrics["val_loss"].item()


study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=1), direction="minimize")
study.optimize(objective, n_trials=4)
print(
    json.dumps(
        dict(
            states=[t.state.name for t in study.trials],
            steps=[max(t.intermediate_values) for t in study.trials],
            values=[v for t in study.trials for v in t.intermediate_values.values()],
            best=study.best_trial.number,
        )
    )
)
