"""A private copy of torch's global random state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch


class PrivateRandomState:
    """A random state for code that draws from torch's global generators, such as nn.Dropout and nn.Linear.

    It starts where `generator` stands (on CUDA: from its seed) and is kept from one use to the next. The caller's
    global random state stays as it was.
    """

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self._devices = [device] if device.type == "cuda" else []
        self._cpu = generator.get_state()
        self._cuda = [torch.Generator(at).manual_seed(generator.initial_seed()).get_state() for at in self._devices]

    def state(self) -> dict[str, Any]:
        """Where it stands, for `restore`."""
        return {"cpu": self._cpu, "cuda": self._cuda}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from where another one stood."""
        self._cpu, self._cuda = state["cpu"], list(state["cuda"])

    @contextmanager
    def used(self) -> Iterator[None]:
        """While inside, torch's global generators draw from this state."""
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._cpu)
            for device, state in zip(self._devices, self._cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
            self._cpu = torch.get_rng_state()
            self._cuda = [torch.cuda.get_rng_state(device) for device in self._devices]
