"""Lightning's enumerations of strings, which compare without regard to case."""

from __future__ import annotations

from leyden.states import Word as LightningEnum


class GradClipAlgorithmType(LightningEnum):
    """How gradients are clipped."""

    VALUE = "value"
    NORM = "norm"

    @classmethod
    def supported_type(cls, val: str) -> bool:
        """Whether there is such an algorithm."""
        return cls.from_str(val) is not None

    @classmethod
    def supported_types(cls) -> list[str]:
        """Their names."""
        return [member.value for member in cls]


class AMPType(LightningEnum):
    """Who did mixed precision; NVIDIA's apex is gone."""

    APEX = "apex"
    NATIVE = "native"


class DistributedType(LightningEnum):
    """Strategies, as 1.x named them."""

    DP = "dp"
    DDP = "ddp"
    DDP2 = "ddp2"
    DDP_CPU = "ddp_cpu"
    DDP_SPAWN = "ddp_spawn"
    DEEPSPEED = "deepspeed"
    HOROVOD = "horovod"


class DeviceType(LightningEnum):
    """Kinds of devices, as 1.x named them."""

    CPU = "CPU"
    GPU = "GPU"
    TPU = "TPU"
    IPU = "IPU"
    HPU = "HPU"


class PrecisionType(LightningEnum):
    """Number formats, as 1.x named them."""

    HALF = "16"
    FLOAT = "32"
    FULL = "64"
    BFLOAT = "bf16"
    MIXED = "mixed"


class ModelSummaryMode(LightningEnum):
    """What ``weights_summary`` of 1.x showed."""

    TOP = "top"
    FULL = "full"


class WriteInterval(LightningEnum):
    """When predictions are written."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """Whether after each batch."""
        return self in (self.BATCH, self.BATCH_AND_EPOCH)

    @property
    def on_epoch(self) -> bool:
        """Whether at the end."""
        return self in (self.EPOCH, self.BATCH_AND_EPOCH)
