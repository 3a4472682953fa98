"""Items that are not images: what a network takes for a batch of sounds, videos or texts, as one or several tensors.

One tensor of any shape (n, ...) is a batch as it is. Several tensors, for example token ids and their mask, are
`Inputs`: the network is called with them by keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from brainrdl._core.errors import quote, refuse
from brainrdl._core.files import digest
from brainrdl._core.given_values import as_numbers
from brainrdl._core.tensor_checks import check_finite


@dataclass(frozen=True, eq=False)
class Inputs:
    """Several tensors with one row per item; rows, parts and copies are made of all tensors together, as of one.

    Parameters
    ----------
    tensors : mapping of str to Tensor, shape (n, ...)
        By the names of the arguments of the network.

    Examples
    --------
    >>> inputs = Inputs({"tokens": torch.tensor([[5, 7], [2, 0]]), "mask": torch.tensor([[True, True], [True, False]])})
    >>> len(inputs), inputs[[1]].tensors["tokens"].tolist()
    (2, [[2, 0]])
    """

    tensors: Mapping[str, Tensor]

    def _each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        return Inputs({name: change(tensor) for name, tensor in self.tensors.items()})

    def _first(self) -> Tensor:
        return next(iter(self.tensors.values()))

    def __len__(self) -> int:
        return len(self._first())

    def __getitem__(self, rows: Any) -> Inputs:
        return self._each(lambda tensor: tensor[rows])

    def index_select(self, dim: int, rows: Tensor) -> Inputs:
        """Return the rows at these positions."""
        return self._each(lambda tensor: tensor.index_select(dim, rows))

    def split(self, size: int) -> Iterator[Inputs]:
        """Yield parts of at most `size` rows."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Inputs:
        """Copy all tensors to a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Inputs:
        """Copy all tensors to pinned memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def is_pinned(self) -> bool:
        """Whether the tensors are in pinned memory."""
        return all(tensor.is_pinned() for tensor in self.tensors.values())

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self._first().device

    @property
    def is_cuda(self) -> bool:
        """Whether the tensors are on a GPU."""
        return self._first().is_cuda

    @property
    def shape(self) -> tuple[Any, ...]:
        """The number of rows, followed by the name and shape of a row of each tensor."""
        return len(self), *((name, tuple(tensor.shape[1:])) for name, tensor in self.tensors.items())


Images = Shaped[Tensor, "n ..."] | Inputs


def run_network(model: nn.Module, images: Images) -> Any:
    """Call a network with a batch: with one tensor, or with several by keyword.

    Examples
    --------
    >>> run_network(nn.Bilinear(2, 2, 1), Inputs({"input1": torch.ones(3, 2), "input2": torch.ones(3, 2)})).shape
    torch.Size([3, 1])
    """
    return model(**images.tensors) if isinstance(images, Inputs) else model(images)


def joined(batches: Sequence[Images]) -> Images | None:
    """Return one batch of all rows, or None if the shapes or types of the rows differ.

    Examples
    --------
    >>> joined([torch.ones(2, 3), torch.ones(1, 3)]).shape, joined([torch.ones(2, 3), torch.ones(2, 4)])
    (torch.Size([3, 3]), None)
    """
    if len(batches) == 1:
        return batches[0]
    if len({_kind(batch) for batch in batches}) > 1:
        return None
    if isinstance(batches[0], Inputs):
        return Inputs({name: torch.cat([batch.tensors[name] for batch in batches]) for name in batches[0].tensors})  # type: ignore[union-attr]
    return torch.cat(list(batches))  # type: ignore[arg-type]


def _kind(batch: Images) -> tuple[Any, ...]:
    tensors = batch.tensors if isinstance(batch, Inputs) else {"": batch}
    return tuple((name, tensor.shape[1:], tensor.dtype) for name, tensor in tensors.items())


@dataclass(frozen=True, eq=False)
class Rows:
    """A source of items as the network takes them, in memory."""

    items: Images
    where: str

    def stack(self, positions: Sequence[int]) -> Images:
        return self.items.index_select(0, torch.tensor(positions, device=self.items.device))

    def pixels(self, position: int) -> Tensor:
        refuse(f"{self.where} are not images")

    def digest(self, position: int) -> str:
        item = self.items[position : position + 1]
        return digest(item.tensors if isinstance(item, Inputs) else {"": item})


@overload
def checked_inputs(inputs: Mapping[str, Any], n: int) -> Inputs: ...
@overload
def checked_inputs(inputs: Any, n: int) -> Images: ...
def checked_inputs(inputs: Any, n: int) -> Images:
    """Return inputs as tensors of `n` rows.

    Raises
    ------
    BrainrdlError
        If they are not tensors or arrays of numbers with `n` rows, values are not finite, or there are none.
    """
    if not isinstance(inputs, Mapping):
        return _checked(inputs, "the inputs", n)
    if not inputs or not all(isinstance(name, str) and name.isidentifier() for name in inputs):
        refuse(f"several inputs need the names of the network's arguments, got {quote(inputs)}")
    return Inputs({name: _checked(value, f"input {name!r}", n) for name, value in inputs.items()})


def _checked(value: Any, what: str, n: int) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.from_numpy(np.array(as_numbers(value, what)))
    if tensor.ndim == 0 or len(tensor) != n:
        refuse(f"{n} names for {what} of shape {tuple(tensor.shape)}; the first dimension must be that of the items")
    if 0 in tensor.shape:
        refuse(f"{what} is empty: shape {tuple(tensor.shape)}")
    if tensor.is_floating_point():
        check_finite(tensor, what)
    return tensor
