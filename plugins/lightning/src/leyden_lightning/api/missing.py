"""Stands for a name that is not there: it can be imported, and says what to do when it is used."""

from __future__ import annotations

from typing import Any

from leyden_lightning.api.exceptions import MisconfigurationException


class _Missing(type):
    """A class that cannot be made; it can be imported, inherited from and asked for with ``isinstance``."""

    sentence: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotPortedError(f"{cls.__mro__[-2].__name__}: {cls.sentence}")

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotPortedError(f"{cls.__name__}.{name}: {cls.sentence}")


class NotPortedError(MisconfigurationException, NotImplementedError, AttributeError):
    """Something of Lightning that the port does not have was used."""


def missing(name: str, sentence: str) -> Any:
    """A class of that name whose use raises the sentence."""
    return _Missing(name, (), {"sentence": sentence, "__module__": "leyden_lightning", "__doc__": sentence})
