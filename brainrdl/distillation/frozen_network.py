"""What a frozen network says about a batch: its patterns by layer and its logits, from one pass per batch.

All terms that are given the same network share one `FrozenNetwork`, so that the network runs once on each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import refuse
from brainrdl.models.feature_cache import digest_network
from brainrdl.models.hooks import evaluating
from brainrdl.models.student import Student
from brainrdl.stimuli.inputs import run_network
from brainrdl.teachers.protocol import identity_of

if TYPE_CHECKING:
    from brainrdl.stimuli.named_images import Batch

_ONLY = "output"  # name of the patterns of a network that answers with one tensor

_SHARED: WeakValueDictionary[int, FrozenNetwork] = WeakValueDictionary()


class FrozenOutput(NamedTuple):
    """The answer of a frozen network to a batch, without gradient.

    Attributes
    ----------
    patterns : dict of str to Tensor, shape (n, n_channels)
        Patterns of each layer that the network names; of a network that answers with one tensor, ``"output"``.
    logits : Tensor, shape (n, n_classes), or None
        Its logits, if it has any.

    Examples
    --------
    >>> FrozenOutput({"output": torch.zeros(2, 3)}, None).logits is None
    True
    """

    patterns: dict[str, Float[Tensor, "n n_channels"]]
    logits: Float[Tensor, "n n_classes"] | None


class FrozenNetwork:
    """A network that does not change, seen through batches: eval mode, no gradient, float32, one pass per batch.

    Parameters
    ----------
    network : nn.Module, callable, or object with a method patterns
        - ``network(images)`` returns a tensor (n, ...), a mapping of names to such tensors, or an object with the
          fields ``patterns`` or ``logits``. A `Student` reads layers of any network:
          ``Student(network, ["layer3"], trainable="none")``.
        - A `NetworkTeacher` has ``patterns(batch)``. It can use its own images and a cache.

    Raises
    ------
    BrainrdlError
        If `network` cannot be called; in a call, if its weights have changed since the first term was made of it, or
        its answer has no tensors with one row for each image.

    Examples
    --------
    >>> from brainrdl.stimuli import Batch
    >>> frozen = FrozenNetwork(nn.Sequential(nn.Flatten(), nn.Linear(16, 10)))
    >>> answer = frozen(Batch(("a", "b"), torch.rand(2, 1, 4, 4)))
    >>> answer.patterns["output"].shape, answer.logits.requires_grad
    (torch.Size([2, 10]), False)
    """

    def __init__(self, network: Any) -> None:
        if not callable(network) and not hasattr(network, "patterns"):
            refuse(
                "a frozen network must be a torch module, a function of images, or a NetworkTeacher, got "
                f"{network!r}; build a network by name with brainrdl.models.build(name, weights).module"
            )
        self.network = network
        self._known: WeakKeyDictionary[Batch, FrozenOutput] = WeakKeyDictionary()
        self._weights = _versions(network)

    def __repr__(self) -> str:
        name = getattr(self.network, "name", None) or getattr(self.network, "__name__", type(self.network).__name__)
        return f"FrozenNetwork({name!r})"

    def __reduce__(self) -> tuple[Callable[[Any], FrozenNetwork], tuple[Any]]:
        return frozen, (self.network,)

    @cached_property
    def identity(self) -> Any:
        """What the network is: a digest of its weights and structure, the identity of a teacher, or the function."""
        if isinstance(self.network, nn.Module):
            return digest_network(self.network)
        return identity_of(self.network, ()) if hasattr(self.network, "patterns") else self.network

    def __deepcopy__(self, memo: object) -> FrozenNetwork:
        return self  # it does not change, so copies of a term share it

    def __call__(self, batch: Batch) -> FrozenOutput:
        """Return the network's patterns and logits for a batch; a second call with the same batch costs nothing.

        Parameters
        ----------
        batch : Batch
            Images, as the student gets them; a `NetworkTeacher` with its own stimuli uses the names.

        Returns
        -------
        FrozenOutput

        Raises
        ------
        BrainrdlError
            See the class.
        """
        if batch not in self._known:
            if _versions(self.network) != self._weights:
                refuse(
                    f"the weights of {self!r} changed after the term was made, so it is not frozen; give the term a "
                    "copy: copy.deepcopy(network)"
                )
            self._known[batch] = self._read(batch)
        return self._known[batch]

    def logits(self, batch: Batch) -> Float[Tensor, "n n_classes"]:
        """Return the network's logits for a batch.

        Raises
        ------
        BrainrdlError
            If it answers with several layers and none of them is known to be the logits.
        """
        patterns, logits = self(batch)
        if logits is None and len(patterns) != 1:
            refuse(
                f"{self!r} gives patterns of layers {list(patterns)} and no logits; give a network that returns "
                "logits, or a NetworkTeacher with the last layer alone"
            )
        return next(iter(patterns.values())) if logits is None else logits

    def _read(self, batch: Batch) -> FrozenOutput:
        network = self.network
        with torch.no_grad(), torch.autocast(batch.images.device.type, enabled=False):
            if isinstance(network, nn.Module):
                with evaluating(network.to(batch.images.device)):
                    if isinstance(network, Student):  # which passes on several inputs to its network
                        return _output(network(batch.images), len(batch.names), self)
                    return _output(run_network(network, batch.images), len(batch.names), self)
            answer = network.patterns(batch) if hasattr(network, "patterns") else network(batch.images)
            return _output(answer, len(batch.names), self)


def frozen(network: Any) -> FrozenNetwork:
    """Return the `FrozenNetwork` of a network: the same one for all terms, so that it runs once per batch.

    Parameters
    ----------
    network : FrozenNetwork, or what it can be made of

    Returns
    -------
    FrozenNetwork

    Raises
    ------
    BrainrdlError
        If `FrozenNetwork` would refuse the network.

    Examples
    --------
    >>> network = nn.Flatten()
    >>> one = frozen(network)
    >>> frozen(network) is one, frozen(one) is one
    (True, True)
    """
    if isinstance(network, FrozenNetwork):
        return network
    shared = _SHARED.get(id(network))  # it holds the network, so that the number is not used again
    if shared is None or shared._weights != _versions(network):
        shared = _SHARED[id(network)] = FrozenNetwork(network)
    return shared


def _versions(network: object) -> tuple[int, ...]:
    """Count the changes of each weight; moving a network to another device is no change."""
    if not isinstance(network, nn.Module):
        return ()
    return tuple(parameter._version for parameter in network.parameters())


def _output(answer: Any, n: int, of: FrozenNetwork) -> FrozenOutput:
    logits = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
    patterns = answer if isinstance(answer, Mapping | Tensor) else getattr(answer, "patterns", None)
    if patterns is None:
        patterns = logits
    if isinstance(patterns, Tensor):
        logits = patterns if logits is None and patterns.ndim == 2 else logits
        patterns = {_ONLY: patterns}
    found = {name: rows for name, rows in (patterns or {}).items() if isinstance(rows, Tensor) and rows.ndim}
    wrong = {name: tuple(rows.shape) for name, rows in found.items() if len(rows) != n}
    if wrong or not found:
        got = f"shapes {wrong}" if wrong else type(answer).__name__
        refuse(f"{of!r} must answer with tensors of one row for each of {n} images, got {got}")
    flat = {name: rows.detach().flatten(1) if rows.ndim > 1 else rows.detach()[:, None] for name, rows in found.items()}
    return FrozenOutput(flat, logits.detach() if isinstance(logits, Tensor) else None)
