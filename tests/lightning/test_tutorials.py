"""The five tutorials block by block, with small tensors in place of downloads; changed only where no release could run them."""

from __future__ import annotations

import os
import tempfile
import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path

import leyden_lightning as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # as the tutorials do
from leyden_lightning import LightningModule, Trainer, seed_everything
from leyden_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
from leyden_lightning.callbacks.early_stopping import EarlyStopping
from leyden_lightning.loggers import TensorBoardLogger
from torch import nn, optim
from torch.optim import Adam
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

pytestmark = pytest.mark.filterwarnings("ignore::leyden.LeydenWarning")

SILENT = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "devices": 1}


def images(count=8, size=32, batch_size=4, channels=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, channels, size, size, generator=generator)
    return DataLoader(TensorDataset(x, torch.arange(count) % 10), batch_size=batch_size)


def mnist(count=8, batch_size=4):
    return images(count, 28, batch_size, 1)


# ---- tutorial 0: CIFAR ----


class ResNet(nn.Module):
    """Stands for the tutorial's network: the same constructor."""

    def __init__(self, num_classes, c_hidden, num_blocks, act_fn_name):
        super().__init__()
        self.net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, num_classes))

    def forward(self, x):
        return self.net(x)


model_dict = {"ResNet": ResNet}


def create_model(model_name, model_hparams):
    if model_name in model_dict:
        return model_dict[model_name](**model_hparams)
    raise AssertionError(f'Unknown model name "{model_name}". Available models are: {model_dict.keys()!s}')


class CIFARModule(pl.LightningModule):
    def __init__(self, model_name, model_hparams, optimizer_name, optimizer_hparams):
        super().__init__()
        self.save_hyperparameters()
        self.model = create_model(model_name, model_hparams)
        self.loss_module = nn.CrossEntropyLoss()
        self.example_input_array = torch.zeros((1, 3, 32, 32), dtype=torch.float32)

    def forward(self, imgs):
        return self.model(imgs)

    def configure_optimizers(self):
        if self.hparams.optimizer_name == "Adam":
            optimizer = optim.AdamW(self.parameters(), **self.hparams.optimizer_hparams)
        elif self.hparams.optimizer_name == "SGD":
            optimizer = optim.SGD(self.parameters(), **self.hparams.optimizer_hparams)
        else:
            raise AssertionError(f'Unknown optimizer: "{self.hparams.optimizer_name}"')
        scheduler = optim.lr_scheduler.MultiStepLR(optimizer, milestones=[100, 150], gamma=0.1)
        scheduler = {
            "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode="min",
                factor=0.1,
                patience=10,
                # verbose=True: torch has dropped it, so no release runs this line
            ),
            "monitor": "val_loss",
            "interval": "epoch",
            "frequency": 1,
        }
        return [optimizer], [scheduler]

    def training_step(self, batch, batch_idx):
        imgs, labels = batch
        preds = self.model(imgs)
        loss = self.loss_module(preds, labels)
        acc = (preds.argmax(dim=-1) == labels).float().mean()
        self.log("train_acc", acc, on_step=False, on_epoch=True)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        imgs, labels = batch
        preds = self.model(imgs)
        loss = self.loss_module(preds, labels)
        preds = self.model(imgs).argmax(dim=-1)
        acc = (preds.argmax(dim=-1) == labels).float().mean()
        self.log("val_acc", acc)
        self.log("val_loss", loss, on_step=False, on_epoch=True, prog_bar=True, logger=True)

    def test_step(self, batch, batch_idx):
        imgs, labels = batch
        preds = self.model(imgs).argmax(dim=-1)
        acc = (labels == preds).float().mean()
        self.log("test_acc", acc)


def train_model(checkpoint_path, train_loader, val_loader, test_loader, model_name, save_name=None, **kwargs):
    if save_name is None:
        save_name = model_name
    trainer = pl.Trainer(
        default_root_dir=os.path.join(checkpoint_path, save_name),  # noqa: PTH118  # as the tutorial does
        accelerator="auto",
        devices=1,
        max_epochs=2,
        callbacks=[ModelCheckpoint(save_weights_only=True, mode="max", monitor="val_acc"), LearningRateMonitor("epoch")],
    )
    trainer.logger._log_graph = True
    trainer.logger._default_hp_metric = None
    pretrained_filename = os.path.join(checkpoint_path, save_name + ".ckpt")  # noqa: PTH118  # as the tutorial does
    if os.path.isfile(pretrained_filename):  # noqa: PTH113  # as the tutorial does
        model = CIFARModule.load_from_checkpoint(pretrained_filename)
    else:
        pl.seed_everything(42)
        model = CIFARModule(model_name=model_name, **kwargs)
        trainer.fit(model, train_loader, val_loader)
        model = CIFARModule.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    val_result = trainer.test(model, dataloaders=val_loader, verbose=False)
    test_result = trainer.test(model, dataloaders=test_loader, verbose=False)
    result = {"test": test_result[0]["test_acc"], "val": val_result[0]["test_acc"]}
    return model, result, trainer


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tutorial_0_trains_saves_the_best_and_tests_it():
    resnet_model, resnet_results, trainer = train_model(
        "saved",
        images(),
        images(4),
        images(6),
        model_name="ResNet",
        model_hparams={"num_classes": 10, "c_hidden": [16, 32, 64], "num_blocks": [3, 3, 3], "act_fn_name": "relu"},
        optimizer_name="SGD",
        optimizer_hparams={"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
    )
    assert set(resnet_results) == {"test", "val"}
    assert type(resnet_results["test"]) is float
    assert resnet_model.hparams.model_hparams["c_hidden"] == [16, 32, 64]
    assert trainer.log_dir == str(Path.cwd() / "saved/ResNet/lightning_logs/version_0") or trainer.log_dir.endswith("version_0")
    saved = torch.load(trainer.checkpoint_callback.best_model_path)
    assert "optimizer_states" not in saved
    assert saved["hyper_parameters"]["optimizer_name"] == "SGD"


def test_tutorial_0_seeds_with_one_line():
    assert seed_everything(42, workers=True) == 42
    first = (torch.rand(1), np.random.rand())
    seed_everything(42, workers=True)
    assert (torch.rand(1), np.random.rand()) == first


def test_tutorial_0_logs_to_a_directory_of_its_own_and_prints_at_an_epochs_end(capsys):
    logger = TensorBoardLogger("logs", name="my_model", comment="of no effect")
    trainer = pl.Trainer(logger=logger, max_epochs=1, enable_model_summary=True, enable_progress_bar=False, accelerator="cpu")

    class Model(CIFARModule):
        def training_step(self, batch, batch_idx):
            x, y = batch
            logits = self(x)
            loss = F.cross_entropy(logits, y)
            self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, logger=True)
            return loss

        def validation_step(self, batch, batch_idx):
            x, y = batch
            acc = (self(x).argmax(dim=-1) == y).float().mean()
            self.log("valid/acc", acc)
            self.log("val_loss", acc)
            return {"valid/acc": acc}

        def validation_epoch_end(self, outputs):
            accs = [x["valid/acc"] for x in outputs if "valid/acc" in x]
            avg_acc = torch.stack(accs).mean()
            print(f"Epoch {self.current_epoch} - Valid Acc: {avg_acc:.4f}")

        def on_validation_epoch_end(self):
            print(f"metric {self.trainer.callback_metrics.get('valid/acc'):.4f}")

    hparams = {"num_classes": 10, "c_hidden": [1], "num_blocks": [1], "act_fn_name": "relu"}
    trainer.fit(Model("ResNet", hparams, "Adam", {"lr": 1e-3}), images(), images(4))
    assert Path("logs/my_model/version_0/hparams.yaml").is_file()
    assert {"train/loss_step", "train/loss_epoch", "train/loss"} <= set(trainer.callback_metrics)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].split()[0] for line in lines] == ["Epoch", "metric", "Epoch", "metric"]


# ---- tutorial 1: auto-encoder, command lines, prediction ----


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 3))

    def forward(self, x):
        return self.l1(x)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 28 * 28))

    def forward(self, x):
        return self.l1(x)


class LitAutoEncoder(pl.LightningModule):
    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def training_step(self, batch, batch_idx):
        x, _y = batch
        x = x.view(x.size(0), -1)
        z = self.encoder(x)
        x_hat = self.decoder(z)
        return F.mse_loss(x_hat, x)

    def test_step(self, batch, batch_idx):
        x, _y = batch
        x = x.view(x.size(0), -1)
        z = self.encoder(x)
        x_hat = self.decoder(z)
        test_loss = F.mse_loss(x_hat, x)
        self.log("test_loss", test_loss)

    def validation_step(self, batch, batch_idx):
        x, _y = batch
        x = x.view(x.size(0), -1)
        z = self.encoder(x)
        x_hat = self.decoder(z)
        val_loss = F.mse_loss(x_hat, x)
        self.log("val_loss", val_loss)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def test_tutorial_1_fits_validates_tests_and_resumes():
    autoencoder = LitAutoEncoder(Encoder(), Decoder())
    trainer = pl.Trainer(default_root_dir="some/path/", max_epochs=1, **SILENT)
    trainer.fit(model=autoencoder, train_dataloaders=mnist())
    assert trainer.global_step == 2
    [tested] = trainer.test(autoencoder, dataloaders=mnist(4), verbose=False)
    assert set(tested) == {"test_loss"}
    path = trainer.checkpoint_callback.best_model_path
    assert path.endswith("some/path/lightning_logs/version_0/checkpoints/epoch=0-step=2.ckpt")
    again = Trainer(default_root_dir="some/path/", max_epochs=2, **SILENT)
    again.fit(LitAutoEncoder(Encoder(), Decoder()), mnist(), mnist(4), ckpt_path=path)
    assert (again.current_epoch, again.global_step) == (2, 4)
    assert float(again.callback_metrics["val_loss"]) > 0


def test_tutorial_1_stops_early_and_keeps_the_best():
    class LitModel(LitAutoEncoder):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("my_metric", loss)
            self.log("global_step", float(self.global_step))
            return loss

    stopping = EarlyStopping(monitor="val_loss", min_delta=10.0, patience=3, verbose=False, mode="min")
    named = ModelCheckpoint(
        save_top_k=10, monitor="val_loss", mode="min", dirpath="my/path/", filename="sample-mnist-{epoch:02d}-{val_loss:.2f}"
    )
    last = ModelCheckpoint(
        save_top_k=10, monitor="global_step", mode="max", dirpath="my/last/", filename="sample-mnist-{epoch:02d}-{global_step}"
    )
    mine = ModelCheckpoint(monitor="my_metric", dirpath="my/mine/")
    trainer = Trainer(callbacks=[stopping, named, last, mine], max_epochs=9, **SILENT)
    trainer.fit(LitModel(Encoder(), Decoder()), mnist(), mnist(4))
    assert trainer.current_epoch == 4  # the first is an improvement on nothing, three are none
    assert Path(named.best_model_path).is_file()
    assert any(name.startswith("sample-mnist-epoch=00-val_loss=0.") for name in os.listdir("my/path"))  # noqa: PTH208  # names
    assert trainer.checkpoint_callback is named
    trainer.save_checkpoint("example.ckpt")
    assert "state_dict" in torch.load("example.ckpt")


def test_tutorial_1_uses_a_pretrained_submodule():
    class Bert(nn.Module):
        """Stands for the downloaded one."""

        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 8)

        def forward(self, input_ids, attention_mask, token_type_ids):
            h = self.embed(input_ids) * attention_mask.unsqueeze(-1)
            return h, token_type_ids, h.mean()

    class BertMNLIFinetuner(LightningModule):
        def __init__(self):
            super().__init__()
            self.bert = Bert()
            self.W = nn.Linear(self.bert.embed.embedding_dim, 3)  # the tutorial forgot self
            self.num_classes = 3

        def forward(self, input_ids, attention_mask, token_type_ids):
            h, _, attn = self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            h_cls = h[:, 0]
            logits = self.W(h_cls)
            return logits, attn

    model = BertMNLIFinetuner()
    ids = torch.ones(2, 5, dtype=torch.long)
    logits, _ = model(ids, ids, ids)
    assert logits.shape == (2, 3)
    model.freeze()
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    model.unfreeze()
    assert all(p.requires_grad for p in model.parameters())


def test_tutorial_1_reads_its_arguments_from_a_command_line():
    class LitModel(LightningModule):
        def __init__(self, args=None, **kwargs):
            super().__init__()
            self.save_hyperparameters()

        @staticmethod
        def add_model_specific_args(parent_parser):
            parser = parent_parser.add_argument_group("LitModel")
            parser.add_argument("--encoder_layers", type=int, default=12)
            parser.add_argument("--data_path", type=str, default="/some/path")
            return parent_parser

    parser = ArgumentParser()
    parser.add_argument("--conda_env", type=str, default="some_name")
    parser.add_argument("--notification_email", type=str, default="will@email.com")
    parser = LitModel.add_model_specific_args(parser)
    parser = Trainer.add_argparse_args(parser)
    args = parser.parse_args(
        ["--accelerator", "cpu", "--devices", "2", "--num_nodes", "1", "--conda_env", "my_env", "--encoder_layers", "12"]
    )
    trainer = Trainer.from_argparse_args(args, early_stopping_callback=EarlyStopping("val_loss"), logger=False)
    assert (trainer.num_devices, args.conda_env) == (2, "my_env")
    assert trainer.early_stopping_callback.monitor == "val_loss"
    assert LitModel(args).hparams.args is args
    assert LitModel(**vars(args)).hparams.encoder_layers == 12


def test_tutorial_1_saves_hyperparameters_in_four_ways():
    class LitMNIST(LightningModule):
        def __init__(self, layer_1_dim=128, learning_rate=1e-2):
            super().__init__()
            self.save_hyperparameters()
            self.save_hyperparameters("layer_1_dim", "learning_rate")
            assert self.hparams.layer_1_dim == layer_1_dim

    class Excluding(LightningModule):
        def __init__(self, loss_fx, generator_network, layer_1_dim=128):
            super().__init__()
            self.layer_1_dim = layer_1_dim
            self.loss_fx = loss_fx
            self.save_hyperparameters("layer_1_dim")
            self.save_hyperparameters(ignore=["loss_fx", "generator_network"])

    assert dict(LitMNIST(learning_rate=0.1).hparams) == {"layer_1_dim": 128, "learning_rate": 0.1}
    assert dict(Excluding(F.mse_loss, nn.Linear(1, 1)).hparams) == {"layer_1_dim": 128}


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"fast_dev_run": True}, 1),
        ({"fast_dev_run": 2}, 2),
        ({"limit_train_batches": 0.5, "limit_val_batches": 0.5}, 1),
        ({"limit_train_batches": 2, "limit_val_batches": 1}, 2),
        ({"num_sanity_val_steps": 2}, 2),
        ({"val_check_interval": 0.5}, 2),
    ],
)
def test_tutorials_1_and_2_limit_a_run(options, steps):
    trainer = Trainer(**{"max_epochs": 1, **options}, **SILENT)
    trainer.fit(LitAutoEncoder(Encoder(), Decoder()), mnist(), mnist())
    assert trainer.global_step == steps


def test_tutorial_1_prints_a_summary_of_weights(capsys):
    trainer = Trainer(fast_dev_run=True, enable_progress_bar=False, accelerator="cpu")
    trainer.fit(LitAutoEncoder(Encoder(), Decoder()), mnist())
    text = capsys.readouterr().err
    assert "Name" in text
    assert "encoder" in text


def test_tutorial_1_predicts_also_with_dropout():
    class MyModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(64, 2)

        def forward(self, x):
            return self.net(x)

        def predict_step(self, batch, batch_idx, dataloader_idx=0):
            return self(batch)

    class LitMCdropoutModel(pl.LightningModule):
        def __init__(self, model, mc_iteration):
            super().__init__()
            self.model = model
            self.dropout = nn.Dropout()
            self.mc_iteration = mc_iteration

        def predict_step(self, batch, batch_idx):
            self.dropout.train()
            x = batch  # the tutorial forgot to say what x is
            pred = [self.dropout(self.model(x)).unsqueeze(0) for _ in range(self.mc_iteration)]
            return torch.vstack(pred).mean(dim=0)

    data = DataLoader(torch.ones(4, 64), 2)
    predictions = Trainer(logger=False, **SILENT).predict(MyModel(), data)
    assert [p.shape for p in predictions] == [(2, 2), (2, 2)]
    dropped = Trainer(logger=False, **SILENT).predict(LitMCdropoutModel(MyModel(), 3), data)
    assert not torch.equal(dropped[0][0], dropped[0][1])


def test_tutorial_1_keeps_tensors_on_the_device():
    class LitModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.register_buffer("sigma", torch.eye(3))

        def forward(self, x):
            z = torch.Tensor(2, 3)
            return z.to(x)

    model = LitModel()
    assert model.device == torch.device("cpu")
    assert model(torch.ones(1, dtype=torch.float64)).dtype == torch.float64
    assert "sigma" in model.state_dict()


@pytest.mark.parametrize("created", ["to", "type_as", "device"])
def test_tutorial_1_creates_tensors_where_a_module_computes(created):
    """A tensor made in forward takes device and dtype of what it is made like; "meta" stands for a device that is not the CPU."""

    class LitModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(3, 3)

        def forward(self, x):
            z = torch.zeros(2, 3, device=self.device) if created == "device" else torch.zeros(2, 3)
            z = {"to": z.to, "type_as": z.type_as, "device": lambda x: z.to(x.dtype)}[created](x)
            return self.net(z)

    made = LitModel().to("meta", torch.float64)
    assert (made.device, made.dtype) == (torch.device("meta"), torch.float64)
    output = made(torch.ones(1, dtype=torch.float64, device="meta"))
    assert (output.device.type, output.dtype, output.shape) == ("meta", torch.float64, (2, 3))


class Predicting(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(1, 1)
        self.trained = []

    def training_step(self, batch, batch_idx):
        self.trained += batch.flatten().tolist()
        return self.net(batch).mean()

    def predict_step(self, batch, batch_idx):
        return batch

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OwnLoader(DataLoader):
    def __init__(self, data, size, *rest):
        super().__init__(data, size, *rest)


@pytest.mark.parametrize("kind", [DataLoader, OwnLoader])
def test_loaders_whose_arguments_are_given_by_position(kind):
    data = torch.arange(8.0).reshape(8, 1)

    class WithLoaders(Predicting):
        def train_dataloader(self):
            return kind(data, 4, True)

        def predict_dataloader(self):
            return kind(data, 4)

    model = WithLoaders()
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
                      devices=1, enable_model_summary=False)  # fmt: skip
    trainer.fit(model)
    assert sorted(model.trained) == data.flatten().tolist()
    predicted = trainer.predict(model)
    assert [len(batch) for batch in predicted] == [4, 4]
    assert torch.equal(torch.cat(predicted), data)


@pytest.mark.parametrize("devices", [1, [0], "0,", 2, [0, 1], "0, 1"])
def test_tutorial_1_says_which_devices(devices):
    trainer = Trainer(accelerator="cpu", devices=devices, logger=False)
    assert trainer.num_devices == (2 if devices in (2, [0, 1], "0, 1") else 1)


# ---- tutorial 2: the quick start of 1.1 ----


class Quick(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(28 * 28, 64), nn.ReLU(), nn.Linear(64, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 28 * 28))

    def forward(self, x):
        return self.encoder(x)

    def training_step(self, batch, batch_idx):
        x, _y = batch
        x = x.view(x.size(0), -1)
        z = self.encoder(x)
        x_hat = self.decoder(z)
        loss = F.mse_loss(x_hat, x)
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def test_tutorial_2_trains_and_deploys_in_three_ways():
    autoencoder = Quick()
    trainer = pl.Trainer(max_epochs=1, **SILENT)
    trainer.fit(autoencoder, mnist())
    assert list(Path("lightning_logs/version_0").glob("events.out.tfevents.*"))
    loaded = Quick.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    loaded.encoder.eval()
    assert torch.equal(loaded(torch.ones(1, 28 * 28)), autoencoder(torch.ones(1, 28 * 28)))

    class LitAutoEncoder(Quick):
        def forward(self):
            z = torch.rand(1, 3)
            image = self.decoder(z)
            return image.view(1, 1, 28, 28)

    assert LitAutoEncoder()().shape == (1, 1, 28, 28)
    state = torch.load(trainer.checkpoint_callback.best_model_path)["state_dict"]
    model = Quick()
    model.load_state_dict(state)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_tutorials_2_and_3_export_to_torchscript():
    autoencoder = Quick()
    torch.jit.save(autoencoder.to_torchscript(), "model.pt")
    assert torch.equal(torch.jit.load("model.pt")(torch.ones(1, 784)), autoencoder(torch.ones(1, 784)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_tutorials_2_and_3_export_to_onnx():
    pytest.importorskip("onnxscript")
    with tempfile.NamedTemporaryFile(suffix=".onnx", delete=False) as tmpfile:
        autoencoder = Quick()
        input_sample = torch.randn((1, 28 * 28))
        autoencoder.to_onnx(tmpfile.name, input_sample, export_params=True)
        assert os.path.isfile(tmpfile.name)  # noqa: PTH113  # as the tutorial does


def test_tutorial_2_trains_on_eight_cpus():
    trainer = pl.Trainer(num_processes=8, logger=False)
    assert (trainer.accelerator.name, trainer.num_devices, trainer.strategy.name) == ("cpu", 8, "ddp")


def test_tutorial_2_asks_for_tpus_and_is_told_that_there_is_no_such_part():
    with pytest.raises(pl.utilities.exceptions.MisconfigurationException, match="leyden has no XLA part"):
        pl.Trainer(tpu_cores=8, precision=16, limit_train_batches=0.5, val_check_interval=0.25)


def test_tutorial_2_uses_any_method_of_the_summary_writer():
    class Model(Quick):
        def training_step(self, batch, batch_idx):
            tensorboard = self.logger.experiment
            tensorboard.add_text("a", "b")
            return super().training_step(batch, batch_idx)

    trainer = pl.Trainer(max_epochs=1, **SILENT)
    trainer.fit(Model(), mnist())
    assert type(trainer.logger.experiment).__name__ == "SummaryWriter"


# ---- tutorial 3: the LightningModule of 1.0 ----


def test_tutorial_3_steps_and_epoch_ends():
    class Model(Quick):
        def __init__(self):
            super().__init__()
            self.history = {"loss": []}

        def training_step(self, batch, batch_idx):
            x, _ = batch
            x = x.view(x.size(0), -1)
            return {"output": self.decoder(self.encoder(x)), "target": x}

        def training_step_end(self, training_step_outputs):
            return F.mse_loss(training_step_outputs["output"], training_step_outputs["target"])

        def training_epoch_end(self, outs):
            loss = 0.0
            for out in outs:
                loss += out["loss"].cpu().detach().item()
            loss /= len(outs)
            self.history["loss"].append(loss)

    model = Model()
    pl.Trainer(max_epochs=2, logger=False, enable_checkpointing=False, **SILENT).fit(model, mnist())
    assert len(model.history["loss"]) == 2


def gan(configure):
    """A module with two networks whose optimizers are configured as the tutorial's ``configure`` does."""

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.model_gen = nn.Linear(4, 1)
            self.model_disc = nn.Linear(4, 1)
            self.turns = []

        def training_step(self, batch, batch_idx, optimizer_idx):
            self.turns.append((batch_idx, optimizer_idx))
            return (self.model_gen(batch) - self.model_disc(batch) - 1).pow(2).mean()

        configure_optimizers = configure

    return Model()


def optimizers(self):
    return Adam(self.model_gen.parameters(), lr=0.01), Adam(self.model_disc.parameters(), lr=0.02)


def with_frequencies(self):
    gen_opt, dis_opt = optimizers(self)
    n_critic = 5
    return ({"optimizer": dis_opt, "frequency": n_critic}, {"optimizer": gen_opt, "frequency": 1})


def with_schedulers(self):
    generator_opt, discriminator_opt = optimizers(self)
    discriminator_sched = torch.optim.lr_scheduler.CosineAnnealingLR(discriminator_opt, T_max=10)
    return [generator_opt, discriminator_opt], [discriminator_sched]


def with_a_dict_of_lists(self):
    generator_opt, discriminator_opt = optimizers(self)
    discriminator_sched = torch.optim.lr_scheduler.CosineAnnealingLR(discriminator_opt, T_max=10)
    return {"optimizer": [generator_opt, discriminator_opt], "lr_scheduler": [discriminator_sched]}


def with_a_schedule_of_steps(self):
    gen_opt, dis_opt = optimizers(self)
    gen_sched = {"scheduler": ExponentialLR(gen_opt, 0.99), "interval": "step"}
    dis_sched = torch.optim.lr_scheduler.CosineAnnealingLR(dis_opt, T_max=10)
    return [gen_opt, dis_opt], [gen_sched, dis_sched]


@pytest.mark.parametrize(
    ("configure", "turns"),
    [
        (optimizers, [(i, k) for i in range(7) for k in (0, 1)]),
        (with_frequencies, [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 0)]),
        (with_schedulers, [(i, k) for i in range(7) for k in (0, 1)]),
        (with_a_dict_of_lists, [(i, k) for i in range(7) for k in (0, 1)]),
        (with_a_schedule_of_steps, [(i, k) for i in range(7) for k in (0, 1)]),
    ],
)
def test_tutorial_3_configures_several_optimizers(configure, turns):
    model = gan(configure)
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **SILENT)
    trainer.fit(model, DataLoader(torch.ones(7, 4)))
    assert model.turns == turns
    assert trainer.global_step == len(turns)


def test_tutorial_3_saves_hyperparameters_of_a_namespace():
    class Model(pl.LightningModule):
        def __init__(self, params):
            super().__init__()
            self.save_hyperparameters(params)

    model = Model(Namespace(p1=1, p2="abc", p3=3.14))
    assert dict(model.hparams) == {"p1": 1, "p2": "abc", "p3": 3.14}


def test_tutorial_3_hooks_of_a_batch_and_the_logger():
    class Model(Quick):
        def on_after_backward(self):
            if self.trainer.global_step % 25 == 0:
                params = self.state_dict()
                for k, v in params.items():
                    grads = v
                    name = k
                    self.logger.experiment.add_histogram(tag=name, values=grads, global_step=self.trainer.global_step)

        def backward(self, loss, optimizer, optimizer_idx):
            loss.backward()

        def optimizer_step(
            self, epoch, batch_idx, optimizer, optimizer_idx, optimizer_closure, on_tpu, using_native_amp, using_lbfgs
        ):
            if self.trainer.global_step < 500:
                lr_scale = min(1.0, float(self.trainer.global_step + 1) / 500.0)
                for pg in optimizer.param_groups:
                    pg["lr"] = lr_scale * 0.1
            optimizer.step(closure=optimizer_closure)
            optimizer.zero_grad()

        def setup(self, stage):
            assert stage == "fit"
            self.l1 = nn.Linear(28, 10)

        def transfer_batch_to_device(self, batch, device):
            return [part.to(device) for part in batch]

        def get_progress_bar_dict(self):
            items = super().get_progress_bar_dict()
            items.pop("v_num", None)
            return items

    model = Model()
    trainer = pl.Trainer(max_epochs=1, **SILENT)
    trainer.fit(model, mnist())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 2 / 500)
    assert any(parameter is model.l1.weight for group in trainer.optimizers[0].param_groups for parameter in group["params"])


def test_tutorial_3_steps_by_hand():
    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 1), nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            (opt_a, opt_b) = self.optimizers()
            loss = self.a(batch).mean()
            self.manual_backward(loss, opt_a)
            self.manual_optimizer_step(opt_a)
            loss = self.b(batch).mean()
            self.manual_backward(loss, opt_b)
            self.manual_optimizer_step(opt_b, force_optimizer_step=True)

        def configure_optimizers(self):
            return torch.optim.SGD(self.a.parameters(), lr=0.1), torch.optim.SGD(self.b.parameters(), lr=0.1)

    trainer = pl.Trainer(automatic_optimization=False, max_epochs=1, logger=False, enable_checkpointing=False, **SILENT)
    trainer.fit(Model(), DataLoader(torch.ones(3, 4)))
    assert trainer.global_step == 6


def test_tutorial_3_splits_time():
    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(1, 4, batch_first=True)
            self.hidden = []

        def training_step(self, batch, batch_idx, hiddens):
            data, _target = batch
            out, hiddens = self.lstm(data, hiddens)
            self.hidden.append(hiddens[0].requires_grad)
            return {"loss": out.mean(), "hiddens": hiddens}

        def tbptt_split_batch(self, batch, split_size):
            splits = []
            time_dims = [len(x[0]) for x in batch if isinstance(x, torch.Tensor)]  # the tutorial did not say what these are
            for t in range(0, time_dims[0], split_size):
                batch_split = []
                for x in batch:
                    split_x = x[:, t : t + split_size]
                    batch_split.append(split_x)
                splits.append(batch_split)
            return splits

        def configure_optimizers(self):
            return Adam(self.parameters(), lr=1e-3)

    model = Model()
    trainer = pl.Trainer(truncated_bptt_steps=2, max_epochs=1, logger=False, enable_checkpointing=False, **SILENT)
    trainer.fit(model, DataLoader(TensorDataset(torch.ones(4, 6, 1), torch.ones(4, 6)), batch_size=2))
    assert trainer.global_step == 6
    assert len(model.hidden) == 6


def test_tutorial_3_attributes():
    seen = {}

    class Model(Quick):
        def training_step(self, batch, batch_idx):
            seen.update(epoch=self.current_epoch, device=str(self.device), rank=self.global_rank, step=self.global_step)
            seen.update(local=self.local_rank, precision=self.precision, amp=self.use_amp, ddp=self.use_ddp)
            seen.update(trainer=self.trainer, logger=self.logger)
            return super().training_step(batch, batch_idx)

    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **SILENT)
    trainer.fit(Model(), mnist())
    assert seen == {"epoch": 0, "device": "cpu", "rank": 0, "step": 1, "local": 0, "precision": "32-true", "amp": False,
                    "ddp": False, "trainer": trainer, "logger": None}  # fmt: skip


# ---- tutorial 4: the overview of 0.9 ----


def test_tutorial_4_a_module_with_its_own_loaders_that_returns_logs():
    class LitModel(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 1)
            self.epochs = []

        def forward(self, x):
            return self.net(x)

        def training_step(self, batch, batch_idx):
            loss = self(batch).pow(2).mean()  # the tutorial did not say what loss is
            tensorboard_logs = {"loss": loss}
            return {"loss": loss, "log": tensorboard_logs}

        def training_epoch_end(self, outputs):
            self.epochs.append(len(outputs))

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.001)

        def train_dataloader(self):
            return DataLoader(torch.ones(6, 4), 2)

        def validation_step(self, batch, batch_idx):
            return {"val_loss": self(batch).pow(2).mean()}

        def validation_epoch_end(self, outputs):
            avg_loss = torch.stack([x["val_loss"] for x in outputs]).mean()
            tensorboard_logs = {"eval_loss": avg_loss}
            return {"val_loss": avg_loss, "log": tensorboard_logs}

        def val_dataloader(self):
            return DataLoader(torch.ones(4, 4), 2)

    model = LitModel()
    trainer = Trainer(max_epochs=2, early_stop_callback=EarlyStopping("val_loss"), **SILENT)
    trainer.fit(model)
    assert model.epochs == [3, 3]
    assert {"val_loss", "eval_loss", "loss"} <= set(trainer.callback_metrics)
    model.eval()
    assert model(torch.ones(1, 4)).shape == (1, 1)


def test_tutorial_4_prepares_data_once_for_all_nodes():
    class Model(Quick):
        def prepare_data(self):
            self.prepared = self.prepare_data_per_node

    model = Model()
    trainer = Trainer(prepare_data_per_node=False, fast_dev_run=True, **SILENT)  # the tutorial has a parenthesis too early
    trainer.fit(model, mnist())
    assert model.prepared is False


@pytest.mark.parametrize("gpus", [[1, 2], "1, 2", -1])
def test_tutorial_4_selects_devices(gpus):
    from leyden_lightning.legacy.arguments import Translation

    assert Translation({"gpus": gpus}).run()["devices"] in ([1, 2], -1)


def test_tutorial_4_tells_at_once_when_there_is_no_such_device():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(pl.utilities.exceptions.MisconfigurationException):
        Trainer(gpus=[1, 2])


def test_tutorial_4_picks_a_model_by_an_argument_read_first():
    class GoodGAN(Quick):
        def __init__(self, encoder_layers=12, **kwargs):
            super().__init__()
            self.encoder_layers = encoder_layers

        @staticmethod
        def add_model_specific_args(parent_parser):
            parser = ArgumentParser(parents=[parent_parser], add_help=False)
            parser.add_argument("--encoder_layers", type=int, default=12)
            return parser

    parser = ArgumentParser()
    parser = Trainer.add_argparse_args(parser)
    parser.add_argument("--model_name", type=str, default="gan", help="gan or mnist")
    words = ["--model_name", "gan", "--encoder_layers", "5", "--fast_dev_run", "--gpus", "0"]
    temp_args, _ = parser.parse_known_args(words)
    if temp_args.model_name == "gan":
        parser = GoodGAN.add_model_specific_args(parser)
    args = parser.parse_args(words)
    model = GoodGAN(**vars(args))
    trainer = Trainer.from_argparse_args(args, checkpoint_callback=False, callbacks=[])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(model, mnist())
    assert model.encoder_layers == 5
    assert trainer.global_step == 1
