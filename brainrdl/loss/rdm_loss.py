"""The only place where a similarity of RDMs becomes a loss.

`RDMLoss` computes one number to minimise from student patterns and teacher RDMs. It does not depend on models, data or
the trainer, so it can be used in any training loop: ``loss(patterns, teacher_rdms)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from brainrdl._core.errors import arg, check_option, named, quote, refuse
from brainrdl._core.tensor_checks import check_same_length
from brainrdl.dissimilarity import measures
from brainrdl.dissimilarity.registry import DISSIMILARITIES
from brainrdl.loss.correlation_kernel import KINDS, direction_of, rdm_correlations
from brainrdl.loss.matching import Match, match_layers, named_targets
from brainrdl.loss.pair_sampling import random_pairs
from brainrdl.similarity import comparators as _similarity
from brainrdl.similarity.registry import SIMILARITIES
from brainrdl.similarity.traits import Similarity

FORMS = ("similarity", "mse")
"""The forms of an `RDMLoss`."""

SCALES = ("none", "mean")
"""How an `RDMLoss` can scale RDMs before the mean squared error."""


@dataclass(frozen=True)
class Decay:
    """A schedule for `RDMLoss`: a weight in (0, 1] that halves every `half_life` steps.

    Parameters
    ----------
    half_life : float
        Number of steps after which the weight is one half; positive.

    Raises
    ------
    BrainrdlError
        If `half_life` is not positive.

    Examples
    --------
    >>> Decay(half_life=100)(200)
    0.25
    """

    half_life: float

    def __post_init__(self) -> None:
        if not self.half_life > 0:
            refuse(f"half_life must be a positive number of steps, got {self.half_life!r}")

    def __call__(self, step: int) -> float:
        """Return the weight at `step`."""
        return float(0.5 ** (step / self.half_life))


@dataclass(frozen=True)
class RDMLoss:
    """Loss between student patterns and teacher RDMs: 1 - similarity (0 at best), or the mean squared difference.

    Every layer of the student is matched with one target of the teacher. The term of a layer is the mean over the
    teacher's RDMs of that target (subjects). The loss is the sum of the terms, each multiplied by the weight of its
    layer, times the value of the schedule. RDMs of which no pair is known are left out of the mean; a target without
    RDMs is left out as well, and the other targets of the layer get its weight.

    Parameters
    ----------
    dissimilarity : str or callable
        Dissimilarity of the student's RDM: a name in `brainrdl.dissimilarity.DISSIMILARITIES` or a function
        ``(..., n_conditions, n_channels) -> (..., n_pairs)``.
    similarity : str or callable
        A differentiable comparator in `brainrdl.similarity.SIMILARITIES`; used by ``form="similarity"``.
    form : {"similarity", "mse"}
        ``1 - similarity``, or the mean squared difference of the dissimilarities.
    scale : {"mean", "none"}
        For ``form="mse"``: ``"mean"`` first divides each RDM by its mean absolute dissimilarity, so that the units
        cancel; ``"none"`` does not.
    match : mapping of layer to target, targets, or weights by target, optional
        Teacher target that each student layer should approach; or several, whose terms are averaged, with their weights
        if these are given. Default: the target with the name of the layer, or the
        teacher's only target.
    layer_weights : mapping of layer to float, optional
        Weight of the term of each layer (default: 1).
    schedule : callable, optional
        Function ``step -> factor`` that multiplies the loss, for example `Decay` (default: always 1).
    n_pairs : int, optional
        Compare only this many pairs, drawn again at each step (default: all pairs).
    seed : int
        Seed of the random pairs.

    Raises
    ------
    BrainrdlError
        If a name is unknown, the dissimilarity needs patterns of several runs, or it or the similarity has no
            gradient.

    Notes
    -----
    A run is resumed only with the same functions: their code and the values they use, and of an object its public
    attributes. Attributes whose names begin with an underscore are not compared: keep there what an object counts or
    remembers.

    References
    ----------
    McClure & Kriegeskorte (2016), Front. Comput. Neurosci. 10:131, doi 10.3389/fncom.2016.00131.

    Examples
    --------
    >>> import torch
    >>> patterns = torch.randn(6, 20, requires_grad=True)
    >>> loss = RDMLoss()(patterns, torch.rand(15))
    >>> loss.backward()
    >>> patterns.grad.shape
    torch.Size([6, 20])
    """

    dissimilarity: str | measures.Dissimilarity = "correlation"
    similarity: str | Similarity = "corr"
    form: Literal["similarity", "mse"] = "similarity"
    scale: Literal["mean", "none"] = "mean"
    match: Match | None = None
    layer_weights: Mapping[str, float] | None = None
    schedule: Callable[[int], float] | None = None
    n_pairs: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_option(self.form, FORMS, "loss form")
        check_option(self.scale, SCALES, "scale")
        if measures.traits_of(self.dissimilarity).cross_validated:
            refuse(
                f"dissimilarity {self.dissimilarity!r} needs patterns of several runs, but a student has no runs; use "
                "'euclidean'"
            )
        measures.resolve(self.dissimilarity)
        if not measures.traits_of(self.dissimilarity).differentiable:
            refuse(
                f"dissimilarity {self.dissimilarity!r} has no gradient, so nothing can be trained with it; use another"
            )
        if not _similarity.resolve(self.similarity).differentiable:
            refuse(f"similarity {self.similarity!r} has no gradient; train with one of {quote(differentiable_names())}")

    @classmethod
    def rdl2016(cls, *, n_pairs: int | None = None, half_life: float | None = None, **options: object) -> RDMLoss:
        """Return the loss of the original paper: squared Euclidean distances over n_channels, unscaled squared error.

        Parameters
        ----------
        n_pairs : int, optional
            Number of random pairs compared at each step (default: all pairs of the batch).
        half_life : float, optional
            Number of steps after which the weight of the loss has halved (default: the weight is constant).
        **options
            Any other parameter of `RDMLoss`.

        Returns
        -------
        RDMLoss

        Raises
        ------
        BrainrdlError
            If `RDMLoss` or `Decay` would refuse the options.

        Examples
        --------
        >>> RDMLoss.rdl2016(half_life=500).dissimilarity
        'euclidean'
        """
        paper = {"dissimilarity": "euclidean", "form": "mse", "scale": "none", "n_pairs": n_pairs}
        schedule = Decay(half_life) if half_life is not None else None
        return cls(**(paper | {"schedule": schedule} | options))  # type: ignore[arg-type]

    def __call__(
        self,
        patterns: Mapping[str, Tensor] | Float[Tensor, "n_conditions n_channels"],
        teacher_rdms: Mapping[str, Tensor] | Float[Tensor, "*n_rdms n_pairs"],
        step: int = 0,
    ) -> Float[Tensor, ""]:
        """Return the weighted sum of the terms of all layers, times the schedule.

        Parameters
        ----------
        patterns : Tensor (n_conditions, n_channels), or mapping of layer to such tensors
            Student patterns, with gradient, any unit.
        teacher_rdms : Tensor (n_pairs,) or (n_rdms, n_pairs), or mapping of target to such tensors
            Teacher RDMs of the same conditions in the same order, any unit. NaN pairs are left out. NaN patterns give a
            NaN loss, and so do teacher RDMs without any pair.
        step : int
            Step of training, for the schedule and the random pairs.

        Returns
        -------
        Tensor, scalar

        Raises
        ------
        BrainrdlError
            If layers and targets cannot be matched, `layer_weights` contains an unknown layer, or the numbers of
            conditions differ.
        """
        layers = named_targets(patterns)
        for layer in self.layer_weights or ():
            check_option(layer, layers, "layer of layer_weights")
        parts = self._parts(layers, teacher_rdms, step)
        if not parts:
            total = math.nan * next(iter(layers.values())).sum()
        elif self.layer_weights:
            terms = _by_layer(parts)
            total = torch.stack([self.layer_weights.get(layer, 1.0) * term for layer, term in terms.items()]).sum()
        else:
            first, *others = (values.sum() for _, values in parts)
            total = sum(others, first)
        return total if self.schedule is None else total * self.schedule(step)

    def terms(
        self,
        patterns: Mapping[str, Tensor] | Float[Tensor, "n_conditions n_channels"],
        teacher_rdms: Mapping[str, Tensor] | Float[Tensor, "*n_rdms n_pairs"],
        step: int = 0,
    ) -> dict[str, Float[Tensor, ""]]:
        """Return the unweighted term of each layer; NaN if no pair of its targets is known.

        Parameters
        ----------
        patterns, teacher_rdms, step
            As in ``__call__``.

        Returns
        -------
        dict of layer to scalar Tensor

        Raises
        ------
        BrainrdlError
            If layers and targets cannot be matched or the numbers of conditions differ.
        """
        layers = named_targets(patterns)
        found = _by_layer(self._parts(layers, teacher_rdms, step))
        return {layer: found.get(layer, rows.new_tensor(math.nan)) for layer, rows in layers.items()}

    def _parts(
        self, patterns: Mapping[str, Tensor] | Tensor, teacher_rdms: Mapping[str, Tensor] | Tensor, step: int
    ) -> list[tuple[list[str], Tensor]]:
        """Compute the terms of all layers, those of one target together where that is possible."""
        layers, targets = named_targets(patterns), named_targets(teacher_rdms)
        matched = match_layers(layers, targets, self.match)
        directions, known = self._known(targets, matched)
        matched = matched if len(known) == len(directions) else {k: _only(known, v) for k, v in matched.items()}
        parts: list[tuple[list[str], Tensor]] = []
        for target in known:
            weights = {layer: given[target] for layer, given in matched.items() if target in given}
            direction = directions[target]
            shapes = {tuple(layers[name].shape[:-1]) for name in weights}
            if direction is not None and shapes == {direction.shape[:1]}:
                together = rdm_correlations([layers[name] for name in weights], direction, str(self.dissimilarity))
                parts.append((list(weights), _weighted(1 - together, list(weights.values()))))
            else:
                parts += [
                    ([name], _weighted(self._term(layers[name], known[target], step)[None], [weight]))
                    for name, weight in weights.items()
                ]
        return parts

    def _known(
        self, targets: Mapping[str, Tensor], matched: Mapping[str, Mapping[str, float]]
    ) -> tuple[dict[str, Tensor | None], dict[str, Tensor]]:
        """Return the direction of each target in use, if there is one, and the RDMs of the targets with any pair."""
        used = dict.fromkeys(target for weights in matched.values() for target in weights)
        directions = {target: self._direction(targets[target]) for target in used}
        known = {
            target: targets[target] if direction is not None else _with_pairs(targets[target])
            for target, direction in directions.items()
        }
        return directions, {target: rdms for target, rdms in known.items() if rdms.numel()}

    def _term(self, patterns: Tensor, teacher: Tensor, step: int) -> Tensor:
        student = measures.resolve(self.dissimilarity)(patterns)
        teacher = teacher.to(student)
        check_same_length(student, teacher, "student and teacher RDMs of one batch")
        if self.n_pairs is not None:
            chosen = random_pairs(student.shape[-1], self.n_pairs, self.seed, step).to(student.device)
            student, teacher = student[..., chosen], _with_pairs(teacher[..., chosen])
        if self.form == "mse":
            return _squared_error(student, teacher, self.scale)
        # Comparators leave out NaN pairs. That is right for pairs the teacher lacks, but must not hide a student's NaN.
        broken = 0 * student.detach().sum()
        return 1 - _similarity.resolve(self.similarity)(student, teacher).mean() + broken

    def _direction(self, teacher: Tensor) -> Tensor | None:
        """Prepare a teacher for the correlation kernel; None if this loss has another form or there are NaN pairs."""
        default = ("similarity", "corr", None)
        if (self.form, self.similarity, self.n_pairs) != default or self.dissimilarity not in KINDS:
            return None
        return direction_of(teacher)


def _with_pairs(teacher: Tensor) -> Tensor:
    """Leave out RDMs of which no pair is known."""
    rdms = teacher.reshape(-1, teacher.shape[-1])
    return rdms[~rdms.isnan().all(-1)]


def _only(known: Iterable[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights of a layer's targets in `known`, with sum 1."""
    kept = {target: weight for target, weight in weights.items() if target in known}
    total = sum(kept.values())
    return {target: weight / total for target, weight in kept.items()}


def _weighted(terms: Tensor, weights: Sequence[float]) -> Tensor:
    return terms if set(weights) == {1.0} else terms * terms.new_tensor(weights)


def _by_layer(parts: Iterable[tuple[list[str], Tensor]]) -> dict[str, Tensor]:
    """Add up the terms of each layer, one for each of its targets."""
    found: dict[str, Tensor] = {}
    for layers, terms in parts:
        for layer, term in zip(layers, terms, strict=True):
            found[layer] = found[layer] + term if layer in found else term
    return found


def check_rdm_loss(loss: object) -> RDMLoss:
    """Return the loss to train with: `loss`, or ``RDMLoss()`` for None.

    A subclass of `RDMLoss` that overrides ``terms`` or ``__call__`` is accepted. Other callables are refused, because
    the scores during and after training need to know which dissimilarity and which pairs of layer and target the loss
    uses.

    Parameters
    ----------
    loss : object
        What was given as the loss of a fit.

    Returns
    -------
    RDMLoss

    Raises
    ------
    BrainrdlError
        If it is not an `RDMLoss`; the message says where a name or another loss belongs.

    Examples
    --------
    >>> check_rdm_loss(None) == RDMLoss()
    True
    >>> check_rdm_loss("cosine")
    Traceback (most recent call last):
    brainrdl.BrainrdlError: loss must be an RDMLoss, got 'cosine'; write loss=RDMLoss(similarity='cosine')
    """
    if loss is None:
        return RDMLoss()
    if isinstance(loss, RDMLoss):
        return loss
    given = loss.__qualname__ if isinstance(loss, type) else repr(loss)
    refuse(f"{named('loss')} must be an RDMLoss, got {given}; {_where_it_belongs(loss)}")


def _where_it_belongs(loss: object) -> str:
    if loss is RDMLoss:
        return f"write {arg('loss', python='loss=RDMLoss()')}"
    for name, known in (("similarity", differentiable_names()), ("dissimilarity", tuple(DISSIMILARITIES))):
        if isinstance(loss, str) and loss in known:
            return f"write {arg('loss', python=f'loss=RDMLoss({name}={loss!r})')}"
    if isinstance(loss, str) or not callable(loss):
        return f"write {arg('loss', python='loss=RDMLoss(similarity=..., dissimilarity=...)')}"
    task, terms = arg("task", python="task=Task(loss=...)"), arg("terms", python="terms={name: Term(function)}")
    return (
        f"a loss of logits and labels belongs in {task}, and any other function of the student's output in {terms}; "
        "your own loss between RDMs can be a subclass of RDMLoss"
    )


def differentiable_names() -> tuple[str, ...]:
    """Return the names of the comparators that can be used in training.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "corr" in differentiable_names(), "spearman" in differentiable_names()
    (True, False)
    """
    return tuple(name for name, function in SIMILARITIES.items() if function.differentiable)


def _squared_error(student: Tensor, teacher: Tensor, scale: str) -> Tensor:
    student, teacher = torch.broadcast_tensors(student, teacher)
    known = ~teacher.isnan()
    teacher = teacher.nan_to_num()
    if scale == "mean":
        student, teacher = (_over_mean(rdm, known) for rdm in (student, teacher))
    return (((student - teacher).square() * known).sum(-1) / known.sum(-1).clamp(min=1)).mean()


def _over_mean(rdm: Tensor, known: Tensor) -> Tensor:
    mean = (rdm.abs() * known).sum(-1, keepdim=True) / known.sum(-1, keepdim=True).clamp(min=1)
    # An RDM of zeros has no scale; dividing by a tiny number would make its gradients infinite.
    return rdm / torch.where(mean > 0, mean, 1)
