"""Terms of the total loss (RDM loss, loss of the task, a user's terms), and how they are weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl._core.errors import arg, check_number, check_option, refuse
from brainrdl._core.files import digest
from brainrdl.distillation.frozen_network import FrozenNetwork
from brainrdl.runs.callables import identify_callable, identify_module
from brainrdl.teachers.protocol import uses_images, view_of
from brainrdl.training.distributed import average

if TYPE_CHECKING:
    from brainrdl.models.student import StudentOutput
    from brainrdl.stimuli.named_images import Batch

RDM, TASK = "rdm", "task"

_MEASURED = ("train_task", "validation_task")  # whose losses are measured at each evaluation

_EVERY = 10  # steps between measurements of gradient norms
_KEPT = 0.9  # of the weights of before, at each measurement


@dataclass(frozen=True)
class Term:
    """A further term of the total loss, for ``fit(terms={"name": Term(function)})``.

    Parameters
    ----------
    function : callable
        ``function(output, batch, step) -> Tensor`` (scalar): `output` has the student's patterns by layer and its
        logits, `batch` has names, images and labels. A `torch.nn.Module` with parameters is trained together with the
        student.
    weight : float
        Weight of the term in the total loss.
    on : {"rdm", "task"}
        Which batch the function gets: that of the RDM, or that of the task.

    Raises
    ------
    BrainrdlError
        If `function` is not callable, the weight is negative or not finite, or `on` is unknown.

    Notes
    -----
    A run is resumed only with the same terms. Of a function its name, its code, its defaults and the values that it
    uses from an enclosing function are compared: numbers, text, tensors, lists of these, networks, functions and
    objects. Of a module or another object, its code and its public attributes are compared: one that counts or
    remembers something should do so in an attribute whose name begins with an underscore. Functions that a term calls
    by their global name are not compared, and of a function that is not written in Python only the name is.

    Examples
    --------
    >>> def small_logits(output, batch, step):
    ...     return output.logits.square().mean()
    >>> Term(small_logits, weight=0.01).on
    'rdm'
    """

    function: Callable[[StudentOutput, Batch, int], Tensor]
    weight: float = 1.0
    on: Literal["rdm", "task"] = "rdm"

    def __post_init__(self) -> None:
        if not callable(self.function):
            refuse(f"a term needs a function (output, batch, step) -> loss, got {self.function!r}")
        check_number(self.weight, "the weight of a term", at_least=0)
        check_option(self.on, (RDM, TASK), "batch of a term")

    def settings(self) -> dict[str, Any]:
        """Return what identifies the term, for the settings of a run: of a module its structure and frozen weights."""
        own = self.function
        function = identify_module(own) if isinstance(own, nn.Module) else identify_callable(own)
        about = {"function": function, "weight": self.weight, "on": self.on}
        frozen = _frozen_in(self.function)
        return {**about, "frozen": frozen} if frozen else about

    def __call__(self, output: StudentOutput, batch: Batch, step: int) -> Float[Tensor, ""]:
        """Return the loss, which must be a scalar."""
        loss = self.function(output, batch, step)
        if not isinstance(loss, Tensor) or loss.ndim:
            shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else repr(loss)
            refuse(f"a term must give a scalar tensor, got {shape} from {self.function!r}")
        return loss


def check_terms(terms: Mapping[str, Term | Callable[..., Tensor]] | None, has_task: bool) -> dict[str, Term]:
    """Return terms by name; a plain function is a term of weight 1.

    Parameters
    ----------
    terms : mapping of name to Term or callable, or None
    has_task : bool
        Whether there is a task, whose batches a term may use.

    Returns
    -------
    dict

    Raises
    ------
    BrainrdlError
        If a name is taken, or a term uses the batch of a task that does not exist.

    Examples
    --------
    >>> check_terms(None, has_task=False)
    {}
    """
    made = {name: term if isinstance(term, Term) else Term(term) for name, term in (terms or {}).items()}
    for name, term in made.items():
        if name in (RDM, TASK):
            refuse(f"{name!r} is the name of a term of fit itself; choose another name")
        if name in _MEASURED:
            refuse(f"{f'{name}_loss'!r} is another column of the history; choose another name than {name!r}")
        if term.on == TASK and not has_task:
            refuse(f"term {name!r} uses the batch of the task, and there is no {arg('task')}")
    return made


def frozen_networks(function: object) -> dict[str, FrozenNetwork]:
    """Return the frozen networks that a term holds, by their place in it.

    Examples
    --------
    >>> frozen_networks(abs)
    {}
    """
    modules = dict(function.named_modules()) if isinstance(function, nn.Module) else {"": function}
    return {
        f"{place} {name}".strip(): value
        for place, module in modules.items()
        for name, value in getattr(module, "__dict__", {}).items()
        if isinstance(value, FrozenNetwork)
    }


def check_views(terms: Mapping[str, Term], augmented: Mapping[str, bool]) -> None:
    """Refuse a cached network teacher in a term that gets augmented images: it would store and compare these.

    Parameters
    ----------
    terms : mapping of name to Term
    augmented : mapping of batch ("rdm", "task") to bool
        Whether its images are augmented.

    Raises
    ------
    BrainrdlError
        If a term's teacher has a cache and no stimuli of its own.

    Examples
    --------
    >>> check_views({}, {"rdm": True, "task": True})
    """
    for name, term in terms.items():
        held = frozen_networks(term.function).values() if augmented[term.on] else ()
        for teacher in (each.network for each in held if hasattr(each.network, "view")):
            if uses_images(teacher) and view_of(teacher) == "clean":
                refuse(
                    f"teacher {teacher.name!r} of term {name!r} sees images without augmentation (it has a cache, or "
                    f"{arg('view', 'clean')}), but a term gets the augmented images of the step; give it its images: "
                    "NetworkTeacher(..., stimuli=stimuli.with_augmentation(None)), or leave out the cache"
                )


def _frozen_in(function: object) -> dict[str, Any]:
    """Describe the frozen networks that a term holds, and digest the parameters that it does not train."""
    found: dict[str, Any] = {place: network.identity for place, network in frozen_networks(function).items()}
    parameters = function.named_parameters() if isinstance(function, nn.Module) else ()
    kept = {name: value for name, value in parameters if not value.requires_grad}
    return found | ({"parameters": digest(kept)} if kept else {})


class Balance(nn.Module):
    """Weighs the terms of a loss against each other; its state is part of a checkpoint.

    Parameters
    ----------
    kind : {"fixed", "uncertainty", "gradient norms"}
        ``"fixed"``: the weights as given. ``"uncertainty"``: each term is multiplied by ``exp(-s)`` and ``s`` is
        added, with ``s`` trained (Kendall et al. 2018, doi 10.1109/CVPR.2018.00781). ``"gradient norms"``: each term is
        scaled so that its gradient has the norm of the gradient of the first term before weights are applied. The
        weights are then the ratios of the norms. Norms are measured every 10 steps and averaged over time.
    names : sequence of str
        Names of the terms.

    Examples
    --------
    >>> balance = Balance("fixed", ["rdm", "task"])
    >>> balance({"rdm": torch.tensor(1.0), "task": torch.tensor(2.0)}, {"rdm": 1.0, "task": 0.5}, [], 0)
    tensor(2.)
    """

    factors: Tensor
    measured: Tensor

    def __init__(self, kind: str, names: Sequence[str]) -> None:
        super().__init__()
        self.kind, self.names = kind, tuple(names)
        if kind == "uncertainty":
            self.log_variances = nn.Parameter(torch.zeros(len(self.names)))
        self.register_buffer("factors", torch.ones(len(self.names)))
        self.register_buffer("measured", torch.tensor(False))

    def forward(
        self, losses: Mapping[str, Tensor], weights: Mapping[str, float], parameters: Sequence[Tensor], step: int
    ) -> Float[Tensor, ""]:
        """Return the total loss."""
        if self.kind == "gradient norms" and step % _EVERY == 0:
            self._measure(losses, parameters)
        first, *others = (self._weighed(name, losses[name], weights[name]) for name in self.names)
        return sum(others, first)

    def _weighed(self, name: str, loss: Tensor, weight: float) -> Tensor:
        term = loss if weight == 1 else weight * loss
        if self.kind == "fixed":
            return term
        position = self.names.index(name)
        if self.kind == "gradient norms":
            return self.factors[position] * term
        s = self.log_variances[position]
        return torch.exp(-s) * term + s

    def _measure(self, losses: Mapping[str, Tensor], parameters: Sequence[Tensor]) -> None:
        norms = torch.stack([_gradient_norm(losses[name], parameters) for name in self.names])
        wanted = torch.where(norms > 0, norms[0] / norms, 1.0)
        kept = torch.where(self.measured, _KEPT, 0.0)
        self.factors.copy_(kept * self.factors + (1 - kept) * wanted)
        self.measured.fill_(True)


def _gradient_norm(loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    if not loss.requires_grad:
        return loss.detach() * 0
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    averaged = average([grad for grad in found if grad is not None])
    norms = [grad.norm() for grad in averaged]
    return torch.stack(norms).norm().detach() if norms else loss.detach() * 0
