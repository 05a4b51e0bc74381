"""What training passes at every layer: closed, it stands still where it is and later goes on from there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from torch import nn

_LOOK_EVERY_S: Final = 0.2
"""How often whoever waits looks whether it was called off."""


class CalledOffError(Exception):
    """The work was called off."""


class TrainingGate:
    """Opened and closed by one thread, passed by another."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._closed = False
        self._called_off = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Tell whether whoever comes has to wait."""
        return self._closed

    def close(self) -> None:
        """Have the next who comes wait."""
        with self._changed:
            self._closed = True

    def open(self) -> None:
        """Let everybody pass."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def go_through(self) -> None:
        """Pass, or wait until that is allowed; raise CalledOffError where the work was called off."""
        if self._called_off.is_set():
            raise CalledOffError
        if not self._closed:
            return
        with self._changed:
            while self._closed:
                if self._called_off.is_set():
                    raise CalledOffError
                self._changed.wait(_LOOK_EVERY_S)

    @contextmanager
    def guarding(self, model: nn.Module, called_off: threading.Event) -> Iterator[None]:
        """Have the model's layers pass the gate, forward and backward; neither their values nor their bits change.

        So whoever calls off waits for a layer at most: a step of a large model takes minutes on an old processor.
        """
        self._called_off = called_off
        handles = [layer.register_forward_hook(self._after_layer) for layer in _layers_of(model)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._called_off = threading.Event()

    def _after_layer(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self.go_through()
        first = output[0] if isinstance(output, tuple) else output
        if getattr(first, "requires_grad", False):
            first.register_hook(lambda _gradient: self.go_through())


def _layers_of(model: nn.Module) -> list[nn.Module]:
    """Return the members of all lists of modules, the blocks of a transformer among them."""
    from torch import nn  # noqa: PLC0415 - the agent starts without it

    return [layer for each in model.modules() if isinstance(each, nn.ModuleList) for layer in each]
