"""The parts of a run that are chosen by name."""

from __future__ import annotations

from typing import ClassVar


class Component:
    """A part of a run that can be given as a name, as ``{name: options}`` or as an object.

    A distribution offers a component by an entry point of the group ``group``: the entry point's name is the component's,
    its object the class, or a function that returns an instance. Options are the constructor's arguments.

    A component's hook implementations carry ``@leyden.hookimpl``, because its life-cycle methods (``setup`` of a strategy)
    and the hooks of the same name are different things. Callbacks need no mark.
    """

    group: ClassVar[str]
    """The entry-point group in which such components are registered."""

    kind: ClassVar[str]
    """What a message calls such a component, and the Trainer's argument for it."""

    name: ClassVar[str]
    """The name of the plain case, which needs no plug-in."""
