"""Chemistry: chemprop's message passing network predicts the number of heavy atoms of small molecules."""

import json
import warnings

import numpy as np
import torch
from chemprop import data, featurizers, models, nn
from lightning import pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

warnings.filterwarnings("ignore")
pl.seed_everything(3)
smiles = ["C" * n + tail for n in range(1, 7) for tail in ("", "O", "N", "C(=O)O", "c1ccccc1", "F")]
targets = np.array([[float(data.MoleculeDatapoint.from_smi(s, [0.0]).mol.GetNumHeavyAtoms())] for s in smiles])
points = [data.MoleculeDatapoint.from_smi(s, y) for s, y in zip(smiles, targets)]
featurizer = featurizers.SimpleMoleculeMolGraphFeaturizer()
train, val, test = (data.MoleculeDataset(points[part], featurizer) for part in (slice(0, 24), slice(24, 30), slice(30, 36)))
scaler = train.normalize_targets()
val.normalize_targets(scaler)
train_loader = data.build_dataloader(train, batch_size=8, num_workers=0, seed=1)
val_loader = data.build_dataloader(val, batch_size=6, num_workers=0, shuffle=False)
test_loader = data.build_dataloader(test, batch_size=6, num_workers=0, shuffle=False)
network = nn.RegressionFFN(input_dim=16, hidden_dim=16, output_transform=nn.UnscaleTransform.from_standard_scaler(scaler))
model = models.MPNN(
    nn.BondMessagePassing(d_h=16),
    nn.MeanAggregation(),
    network,
    batch_norm=True,
    metrics=[nn.metrics.RMSE(), nn.metrics.MAE()],
    warmup_epochs=2,
    init_lr=1e-2,
    max_lr=3e-2,
    final_lr=1e-2,
)


class Losses(pl.Callback):
    def on_validation_end(self, trainer, pl_module):
        losses.append(trainer.callback_metrics["val_loss"].item())


losses = []
checkpoints = ModelCheckpoint("checkpoints", "best-{epoch}-{val_loss:.2f}", "val_loss", mode="min", save_last=True, save_top_k=-1)
trainer = pl.Trainer(
    logger=False,
    enable_checkpointing=True,
    enable_progress_bar=False,
    accelerator="cpu",
    devices=1,
    max_epochs=8,
    num_sanity_val_steps=0,
    callbacks=[checkpoints, Losses()],
)
trainer.fit(model, train_loader, val_loader)
tested = trainer.test(model, test_loader, verbose=False)
predictions = torch.cat(trainer.predict(model, test_loader))
with torch.no_grad():
    for parameter in model.parameters():
        parameter.zero_()  # what is tested is that the file brings them back
model.load_state_dict(torch.load(checkpoints.last_model_path, weights_only=False)["state_dict"])
again = torch.cat(trainer.predict(model, test_loader))
print(
    json.dumps(
        dict(
            before=losses[0],
            after=losses[-1],
            tested=dict(sorted(tested[0].items())),
            shape=list(predictions.shape),
            steps=trainer.global_step,
            reloaded=bool(torch.allclose(predictions, again)),
            predictions=predictions.double().sum().item(),
            parameters=sum(p.double().abs().sum().item() for p in model.parameters()),
        )
    )
)
