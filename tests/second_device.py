"""A second device, played on the CPU, for tests of where tensors lie on machines without a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SAYS = {torch.Tensor.device.__get__: CUDA, torch.Tensor.is_cuda.__get__: True}  # type: ignore[attr-defined]
"""What a tensor that lies there says of itself."""
ACROSS = ("to", "copy_", "__getitem__", "__setitem__")
"""Functions that take tensors of both devices."""


class SecondDevice(TorchFunctionMode):
    """Inside of the block, tensors that are made on CUDA or moved there are CPU tensors that say they lie there.

    As on a GPU, a function is refused that gets tensors of both devices, unless those of the CPU are single numbers; so is to
    make a NumPy array of one that lies there. What autograd does on the way back is not seen.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run a function on the CPU, and see where its tensors would lie."""
        given, name = (args, dict(kwargs or {})), getattr(func, "__name__", "")
        tensors = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)]
        there = [tensor for tensor in tensors if hasattr(tensor, "is_there")]
        here = [tensor for tensor in tensors if not hasattr(tensor, "is_there") and tensor.ndim]
        if there and func in SAYS:
            return SAYS[func]
        if there and (name in ("numpy", "__array__") or (here and name not in ACROSS)):
            shapes = [[tuple(tensor.shape) for tensor in some] for some in (there, here)]
            raise RuntimeError(f"{name}: tensors {shapes[0]} lie on CUDA, {shapes[1]} on the CPU")
        devices = [leaf for leaf in tree_leaves(given) if isinstance(leaf, torch.device)]
        args, named = tree_map_only(torch.device, lambda _: CPU, given)
        result = func(*args, **named)
        goes_there = devices[0] == CUDA if devices else bool(there) and name != "cpu"
        if tensors and result is tensors[0] and goes_there != bool(there):
            result = result.clone()  # else the one that was moved would lie elsewhere, too
        if goes_there:
            _mark(result)
        return result


def move_there(network: nn.Module) -> None:
    """Say of all tensors of a network that they lie on the second device; nn.Module.to and copies do so out of sight."""
    _mark(list(itertools.chain(network.parameters(), network.buffers())))


def _mark(result: Any) -> None:
    for leaf in tree_leaves(result):
        if isinstance(leaf, torch.Tensor):
            leaf.is_there = True  # type: ignore[attr-defined]


class GeneratorThere(torch.Generator):
    """A generator for any device, in the place of torch's, which makes one only for a device of this machine."""

    def __new__(cls, _device: torch.device | str = "cpu") -> GeneratorThere:
        """Make one of the CPU."""
        return super().__new__(cls)
