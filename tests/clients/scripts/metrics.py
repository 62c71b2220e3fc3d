"""Metrics: torchmetrics' objects and collections in a module, logged and reset by the Trainer."""

import json
import warnings

import pytorch_lightning as pl
import torch
import torchmetrics
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryF1Score

warnings.filterwarnings("ignore")


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)
        scores = MetricCollection([BinaryAccuracy(), BinaryF1Score()])
        self.train_scores, self.val_scores = scores.clone("train/"), scores.clone("val/")
        self.mean = torchmetrics.MeanMetric()
        self.tracker_values = []

    def training_step(self, batch, batch_idx):
        logits = self.net(batch[0]).squeeze(1)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, batch[1].float())
        self.mean(loss)
        self.log("loss", self.mean, on_step=True, on_epoch=True, prog_bar=True)
        self.log_dict(self.train_scores(logits, batch[1]), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.val_scores.update(self.net(batch[0]).squeeze(1), batch[1])

    def on_validation_epoch_end(self):
        self.log_dict(self.val_scores.compute())
        self.val_scores.reset()

    def test_step(self, batch, batch_idx):
        self.val_scores(self.net(batch[0]).squeeze(1), batch[1])
        self.log_dict(self.val_scores, on_step=False, on_epoch=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


class Keep(pl.Callback):
    def __init__(self):
        self.rows = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.rows.append({k: v.item() for k, v in sorted(trainer.callback_metrics.items())})


pl.seed_everything(6)
x = torch.randn(60, 3)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8)
keep = Keep()
trainer = pl.Trainer(
    max_epochs=3,
    accelerator="cpu",
    enable_progress_bar=False,
    enable_model_summary=False,
    logger=False,
    callbacks=[keep],
    default_root_dir="runs",
)
model = Model()
trainer.fit(model, loader, loader)
tested = trainer.test(model, loader, verbose=False)[0]
again = Model.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
print(
    json.dumps(
        dict(
            rows=keep.rows,
            tested=dict(sorted(tested.items())),
            reloaded=bool(torch.equal(again.net.weight, model.net.weight)),
        )
    )
)
