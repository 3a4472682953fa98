"""Losses of network distillation, as further terms of the total loss.

A term is a callable ``(output, batch, step) -> scalar tensor``; `output` is the `StudentOutput` of the batch. It is
passed to a fit as ``terms={"kd": Term(KnowledgeDistillation(network), weight=0.5)}``, or used in your own loop. Each
term here compares the student with a frozen network on the same images (see `FrozenNetwork`); terms of the same network
share its pass.

A term may be an ``nn.Module``, as these are. Its parameters are then trained with the student's. A term whose
parameters depend on the sizes of patterns has a method ``prepare(output, batch)``, which is called once before the
optimiser is built. The weights of the frozen network are neither among the parameters nor in the state of a term.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from brainrdl._core.errors import check_number, check_option, refuse
from brainrdl.dissimilarity.measures import euclidean
from brainrdl.distillation.frozen_network import FrozenNetwork, frozen
from brainrdl.distillation.transfer_losses import probabilistic_loss, relational_loss, similarity_preserving_loss
from brainrdl.loss.matching import match_layers
from brainrdl.similarity.comparators import cka

if TYPE_CHECKING:
    from brainrdl.models.student import StudentOutput
    from brainrdl.stimuli.named_images import Batch


class KnowledgeDistillation(nn.Module):
    """Divergence between the class probabilities of a frozen network and of the student, softened by a temperature.

    The loss is T^2 times the mean over images of the Kullback-Leibler divergence of the student's probabilities
    ``softmax(logits / T)`` from the network's. The factor T^2 keeps the size of the gradients when T changes.

    Parameters
    ----------
    network : see `FrozenNetwork`
        Its logits must be for the same classes in the same order.
    temperature : float
        T, above 0.

    Raises
    ------
    BrainrdlError
        If `temperature` is not a number above 0; in a call, if the student or the network has no logits, or their
        numbers of classes differ.

    References
    ----------
    Hinton, Vinyals & Dean (2015), doi 10.48550/arXiv.1503.02531.

    Examples
    --------
    >>> from brainrdl import Student
    >>> from brainrdl.stimuli import Batch
    >>> def network(seed):
    ...     torch.manual_seed(seed)
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    >>> batch = Batch(("a", "b"), torch.rand(2, 1, 4, 4))
    >>> term = KnowledgeDistillation(network(0))
    >>> same, other = (term(Student(network(seed), ["1"])(batch.images), batch, 0) for seed in (0, 1))
    >>> bool(same.abs() < 1e-6), bool(other > 0.01)
    (True, True)
    """

    def __init__(self, network: Any, temperature: float = 4.0) -> None:
        super().__init__()
        check_number(temperature, "temperature", above=0)
        self.network, self.temperature = frozen(network), temperature

    def forward(self, output: StudentOutput, batch: Batch, step: int) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        theirs = self.network.logits(batch)
        if output.logits is None:
            refuse(
                "KnowledgeDistillation needs logits from the student (n, n_classes), as a tensor or a field `logits`"
            )
        if output.logits.shape != theirs.shape:
            refuse(
                f"the student has logits of shape {tuple(output.logits.shape)} and {self.network!r} "
                f"{tuple(theirs.shape)}; both need the same images and classes"
            )
        ours = output.logits if output.logits.dtype == torch.float64 else output.logits.float()
        with torch.autocast(ours.device.type, enabled=False):
            log_ours = functional.log_softmax(ours / self.temperature, dim=1)
            log_theirs = functional.log_softmax(theirs.to(ours) / self.temperature, dim=1)
            divergence = functional.kl_div(log_ours, log_theirs, reduction="batchmean", log_target=True)
        return divergence * self.temperature**2

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"{self.network!r}, temperature={self.temperature}"


class _PatternTerm(nn.Module):
    """The sum over matched layers of a loss between the student's patterns and the frozen network's."""

    def __init__(self, network: Any, match: Mapping[str, str] | None) -> None:
        super().__init__()
        self.network: FrozenNetwork = frozen(network)
        self.match = None if match is None else dict(match)

    def forward(self, output: StudentOutput, batch: Batch, step: int) -> Float[Tensor, ""]:
        """Return the loss of a batch: the sum over the matched layers."""
        theirs = self.network(batch).patterns
        losses = [
            self.compare(output.patterns[layer], theirs[name], layer)
            for layer, name in self.matched(output, theirs).items()
        ]
        return torch.stack(losses).sum()

    def matched(self, output: StudentOutput, theirs: Mapping[str, Tensor]) -> dict[str, str]:
        layers = tuple(output.patterns if self.match is None else self.match)
        for layer in layers:
            check_option(layer, output.patterns, "student layer")
        return {layer: next(iter(weights)) for layer, weights in match_layers(layers, theirs, self.match).items()}

    def compare(self, ours: Tensor, theirs: Tensor, layer: str) -> Tensor:
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the network and the layers in ``repr``."""
        return f"{self.network!r}, match={self.match}"


class Hints(_PatternTerm):
    """Mean squared difference between a frozen network's patterns and a linear map of the student's.

    The map (with bias) is trained together with the student. It is built by ``prepare``, because its size depends on
    the patterns. The mean is over images and channels; the paper has half of the sum over channels.

    Parameters
    ----------
    network : see `FrozenNetwork`
    match : mapping of layer to layer, optional
        The network's layer that each layer of the student should predict. Default: the layer with the same name, or the
        network's only layer.
    seed : int
        Seed of the map's initial weights.

    Raises
    ------
    BrainrdlError
        In a call, if ``prepare`` was not called, or layers cannot be matched.

    References
    ----------
    Romero et al. (2015), ICLR, doi 10.48550/arXiv.1412.6550.

    Examples
    --------
    >>> from brainrdl import Readout, Student
    >>> from brainrdl.stimuli import Batch
    >>> images = torch.rand(2, 1, 4, 4)
    >>> student = Student(nn.Sequential(nn.Conv2d(1, 5, 3)), ["0"], readout=Readout("avgpool"))
    >>> term, batch = Hints(nn.Conv2d(1, 7, 4)), Batch(("a", "b"), images)
    >>> term.prepare(student(images), batch)
    >>> [tuple(parameter.shape) for parameter in term.parameters()], term(student(images), batch, 0).shape
    ([(7, 5), (7,)], torch.Size([]))
    """

    def __init__(self, network: Any, match: Mapping[str, str] | None = None, *, seed: int = 0) -> None:
        super().__init__(network, match)
        self.seed = seed
        self.layers: tuple[str, ...] = ()
        self.maps = nn.ModuleList()

    def prepare(self, output: StudentOutput, batch: Batch) -> None:
        """Build the maps from the sizes of the patterns; existing ones are kept.

        Parameters
        ----------
        output : StudentOutput
            The student's output for a batch.
        batch : Batch
            The same batch.

        Raises
        ------
        BrainrdlError
            If layers cannot be matched.
        """
        theirs = self.network(batch).patterns
        matched = self.matched(output, theirs)
        if self.layers:
            return
        generator = torch.Generator().manual_seed(self.seed)
        for layer, name in matched.items():
            ours = output.patterns[layer]
            self.maps.append(_linear(ours.shape[1], theirs[name].shape[1], generator).to(ours.device))
        self.layers = tuple(matched)

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"{super().extra_repr()}, seed={self.seed}"

    def compare(self, ours: Tensor, theirs: Tensor, layer: str) -> Tensor:
        if layer not in self.layers:
            refuse(f"Hints has no map for layer {layer!r}; call prepare(output, batch) before the optimiser is built")
        predicted = self.maps[self.layers.index(layer)](ours)
        return functional.mse_loss(predicted.float(), theirs.float())


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    """Make a map with the first weights of ``nn.Linear``, from a separate random generator."""
    made = nn.utils.skip_init(nn.Linear, n_in, n_out)
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -1 / math.sqrt(n_in), 1 / math.sqrt(n_in), generator=generator)
    return made


class RelationalDistillation(_PatternTerm):
    """Relational knowledge distillation: `brainrdl.distillation.relational_loss`, summed over layers.

    Parameters
    ----------
    network : see `FrozenNetwork`
    match : mapping of layer to layer, optional
        The network's layer for each layer of the student. Default: the layer with the same name, or the network's only
        layer.
    distance, angle : float
        Weights of the two parts, at least 0.

    Raises
    ------
    BrainrdlError
        If a weight is not a number of at least 0, or both are 0; in a call, if layers cannot be matched.

    References
    ----------
    Park, Kim, Lu & Cho (2019), CVPR, doi 10.1109/CVPR.2019.00409.

    Examples
    --------
    >>> from brainrdl import Student
    >>> from brainrdl.stimuli import Batch
    >>> images, network = torch.rand(5, 1, 4, 4), nn.Flatten()
    >>> student = Student(nn.Sequential(nn.Flatten()), ["0"])
    >>> bool(RelationalDistillation(network)(student(images), Batch(tuple("abcde"), images), 0) < 1e-6)
    True
    """

    def __init__(
        self, network: Any, match: Mapping[str, str] | None = None, *, distance: float = 1.0, angle: float = 2.0
    ) -> None:
        super().__init__(network, match)
        check_number(distance, "distance", at_least=0)
        check_number(angle, "angle", at_least=0)
        if not distance and not angle:
            refuse("RelationalDistillation with distance=0 and angle=0 is always 0; give one of them a weight")
        self.distance, self.angle = distance, angle

    def compare(self, ours: Tensor, theirs: Tensor, layer: str) -> Tensor:
        return relational_loss(ours, theirs, self.distance, self.angle)

    def extra_repr(self) -> str:
        """Show the options in ``repr``."""
        return f"{super().extra_repr()}, distance={self.distance}, angle={self.angle}"


class SimilarityPreserving(_PatternTerm):
    """Similarity-preserving distillation: `brainrdl.distillation.similarity_preserving_loss`, summed over layers.

    Parameters
    ----------
    network : see `FrozenNetwork`
    match : mapping of layer to layer, optional
        The network's layer for each layer of the student. Default: the layer with the same name, or the network's only
        layer.

    Raises
    ------
    BrainrdlError
        In a call, if layers cannot be matched.

    References
    ----------
    Tung & Mori (2019), ICCV, doi 10.1109/ICCV.2019.00145.

    Examples
    --------
    >>> from brainrdl import Student
    >>> from brainrdl.stimuli import Batch
    >>> images, network = torch.rand(5, 1, 4, 4), nn.Flatten()
    >>> student = Student(nn.Sequential(nn.Flatten()), ["0"])
    >>> bool(SimilarityPreserving(network)(student(images), Batch(tuple("abcde"), images), 0).abs() < 1e-6)
    True
    """

    def __init__(self, network: Any, match: Mapping[str, str] | None = None) -> None:
        super().__init__(network, match)

    def compare(self, ours: Tensor, theirs: Tensor, layer: str) -> Tensor:
        return similarity_preserving_loss(ours, theirs)


class ProbabilisticTransfer(_PatternTerm):
    """Probabilistic knowledge transfer: `brainrdl.distillation.probabilistic_loss`, summed over layers.

    Parameters
    ----------
    network : see `FrozenNetwork`
    match : mapping of layer to layer, optional
        The network's layer for each layer of the student. Default: the layer with the same name, or the network's only
        layer.

    Raises
    ------
    BrainrdlError
        In a call, if layers cannot be matched.

    References
    ----------
    Passalis & Tefas (2018), ECCV, doi 10.1007/978-3-030-01252-6_17.

    Examples
    --------
    >>> from brainrdl import Student
    >>> from brainrdl.stimuli import Batch
    >>> images, network = torch.rand(5, 1, 4, 4), nn.Flatten()
    >>> student = Student(nn.Sequential(nn.Flatten()), ["0"])
    >>> bool(ProbabilisticTransfer(network)(student(images), Batch(tuple("abcde"), images), 0).abs() < 1e-6)
    True
    """

    def __init__(self, network: Any, match: Mapping[str, str] | None = None) -> None:
        super().__init__(network, match)

    def compare(self, ours: Tensor, theirs: Tensor, layer: str) -> Tensor:
        return probabilistic_loss(ours, theirs)


class KernelAlignment(_PatternTerm):
    """One minus the linear centred kernel alignment (CKA) of the patterns, in [0, 1], summed over layers.

    It is computed by `brainrdl.similarity.cka` from squared Euclidean distances.

    Parameters
    ----------
    network : see `FrozenNetwork`
    match : mapping of layer to layer, optional
        The network's layer for each layer of the student. Default: the layer with the same name, or the network's only
        layer.

    Raises
    ------
    BrainrdlError
        In a call, if layers cannot be matched.

    References
    ----------
    Kornblith, Norouzi, Lee & Hinton (2019), ICML, doi 10.48550/arXiv.1905.00414.

    Examples
    --------
    >>> from brainrdl import Student
    >>> from brainrdl.stimuli import Batch
    >>> images, network = torch.rand(5, 1, 4, 4), nn.Flatten()
    >>> student = Student(nn.Sequential(nn.Flatten()), ["0"])
    >>> bool(KernelAlignment(network)(student(images), Batch(tuple("abcde"), images), 0).abs() < 1e-6)
    True
    """

    def __init__(self, network: Any, match: Mapping[str, str] | None = None) -> None:
        super().__init__(network, match)

    def compare(self, ours: Tensor, theirs: Tensor, layer: str) -> Tensor:
        return 1 - cka(euclidean(ours), euclidean(theirs.to(ours)))
