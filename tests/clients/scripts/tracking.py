"""Tracking: mlflow.pytorch.autolog keeps what a run of Lightning's Trainer does, and the model."""

import json
import os
import warnings

os.environ["MLFLOW_TRACKING_URI"] = "file:./mlruns"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
warnings.filterwarnings("ignore")

import mlflow
import mlflow.pytorch
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.mse_loss(self(batch[0]), batch[1]))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", torch.nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


pl.seed_everything(9)
mlflow.pytorch.autolog(log_models=True, checkpoint=True, checkpoint_monitor="val_loss")
x = torch.linspace(-1, 1, 96).reshape(32, 3)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True)), batch_size=8)
with mlflow.start_run() as run:
    trainer = pl.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        callbacks=[EarlyStopping("val_loss", patience=3)],
    )
    model = Model()
    trainer.fit(model, loader, loader)
    trainer.test(model, loader, verbose=False)
client = mlflow.MlflowClient()
data = client.get_run(run.info.run_id).data
loaded = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/model")
print(
    json.dumps(
        dict(
            params=sorted(item for item in data.params.items() if item[0] != "min_delta"),
            metrics=dict(sorted(data.metrics.items())),
            history=[m.value for m in client.get_metric_history(run.info.run_id, "val_loss")],
            same=bool(torch.equal(loaded(x), model(x))),
            artifacts=sorted(a.path for a in client.list_artifacts(run.info.run_id)),
            tags=sorted(k for k in data.tags if "mlflow." not in k),
        )
    )
)
