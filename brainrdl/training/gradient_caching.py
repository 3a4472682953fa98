"""The exact gradient of a loss over all conditions of a step, in the memory of a few of them.

An RDM joins all conditions, so the network's outputs for all of them are needed at once, but what the backward pass
needs of each (its activations) is not. The network therefore passes over the images twice (Gao et al., 2021, call this
gradient caching): the first pass keeps only patterns and logits, from which the loss and its gradient with respect to
them follow; the second one repeats the images a few at a time, with the same random numbers, and passes the gradient of
their patterns on to the weights. The result is that of one pass. It costs one more forward pass.

References
----------
Gao, Zhang, Han & Callan (2021), Scaling deep contrastive learning batch size under memory limited setup, RepL4NLP,
doi 10.18653/v1/2021.repl4nlp-1.31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from brainrdl._core.errors import arg, check_whole, refuse
from brainrdl.models.student import Student, StudentOutput
from brainrdl.stimuli.inputs import Images


def cached_backward(
    student: Student,
    images: Images,
    loss_of_output: Callable[[StudentOutput], Tensor],
    micro_batch: int,
    backward: Callable[[Tensor], None],
    *,
    around: Callable[[], AbstractContextManager[object]] = nullcontext,
    around_backward: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> tuple[StudentOutput, Tensor]:
    """Add the gradient of a loss over all images to the student's parameters, in the memory of a micro-batch.

    With several processes, `images` are the rows of this one (`own`) and `loss_of_output` gathers the patterns
    (`gather`); afterwards gradients are averaged (`average_gradients`), as without this function.

    Parameters
    ----------
    student : Student
        Network, in the mode in which it is trained.
    images : Tensor, shape (n, c, h, w)
        Images of the step, on the student's device.
    loss_of_output : callable
        Function from the output for all images to the loss, a scalar. It is called once.
    micro_batch : int
        Number of images that pass through the network together.
    backward : callable
        Function that computes gradients from the loss, once: ``torch.Tensor.backward`` or ``accelerator.backward``.
        What it scales the loss by also scales the gradient.
    around : callable, optional
        Context of each forward pass of the network, for example ``accelerator.autocast``; the loss is computed outside.
    around_backward : callable, optional
        Context of each backward pass of the network.

    Returns
    -------
    StudentOutput
        Patterns and logits of all images, without gradient.
    Tensor, scalar
        The loss, without gradient.

    Raises
    ------
    BrainrdlError
        If batch normalisation is trained (its statistics would be those of the micro-batches), if a buffer of the
        network changes in each pass, so that the second one would differ, or if `micro_batch` is not a whole number
        above 0.

    Examples
    --------
    >>> from brainrdl import RDMLoss
    >>> student = Student(nn.Sequential(nn.Flatten(), nn.Linear(16, 8)), ["1"])
    >>> images, teacher = torch.rand(20, 1, 4, 4), torch.rand(190)
    >>> output, loss = cached_backward(student, images, lambda output: RDMLoss()(output.patterns["1"], teacher), 5,
    ...                                torch.Tensor.backward)
    >>> output.patterns["1"].shape, student.model[1].weight.grad.shape
    (torch.Size([20, 8]), torch.Size([8, 16]))
    """
    check_whole(micro_batch, "micro_batch", 1)
    _check_statistics(student)
    parts = tuple(images.split(micro_batch))
    with _same_buffers(student):
        passes, states = _first_pass(student, parts, around)
    output = _joined(passes)
    loss = loss_of_output(output)
    backward(loss)
    at_the_end = _random_state(images.device)
    for part, state, patterns, logits in _gradients(parts, states, output):
        _set_random_state(state, images.device)
        with around():
            again = student(part)
        tensors, gradients = _with_gradient(again, patterns, logits)
        with around_backward():
            torch.autograd.backward(tensors, gradients)
    _set_random_state(at_the_end, images.device)
    kept = {layer: rows.detach() for layer, rows in output.patterns.items()}
    return StudentOutput(kept, None if output.logits is None else output.logits.detach()), loss.detach()


def _check_statistics(student: Student) -> None:
    if any(isinstance(module, _BatchNorm) and module.training for module in student.modules()):
        refuse(
            f"{arg('batchnorm', 'train')} computes its statistics from the images that pass through the network "
            f"together, which are only a part of the step's if {arg('micro_batch')} is set; use "
            f"{arg('batchnorm', 'eval')}, or leave out {arg('micro_batch')}"
        )


@contextmanager
def _same_buffers(student: nn.Module) -> Iterator[None]:
    """Refuse buffers that a pass changes."""
    before = {name: (id(buffer), buffer._version) for name, buffer in student.named_buffers()}
    yield
    for name, buffer in student.named_buffers():
        if before.get(name) != (id(buffer), buffer._version):
            refuse(
                f"buffer {name!r} of the network changes in each pass, so that the second of the two passes of "
                f"{arg('micro_batch')} would differ from the first; leave out {arg('micro_batch')}, or put this module "
                "into evaluation mode"
            )


@torch.no_grad()
def _first_pass(
    student: Student, parts: tuple[Images, ...], around: Callable[[], AbstractContextManager[object]]
) -> tuple[list[StudentOutput], list[list[Tensor]]]:
    passes, states = [], []
    for part in parts:
        states.append(_random_state(part.device))
        with around():
            passes.append(student(part))
    return passes, states


def _joined(passes: list[StudentOutput]) -> StudentOutput:
    """Join the outputs of all parts, as leaves that receive the gradient of the loss."""
    patterns = {layer: _leaf([one.patterns[layer] for one in passes]) for layer in passes[0].patterns}
    logits = [one.logits for one in passes if one.logits is not None]
    return StudentOutput(patterns, _leaf(logits) if logits else None)


def _leaf(rows: list[Tensor]) -> Tensor:
    joined = torch.cat(rows)
    return joined.requires_grad_(joined.is_floating_point())


def _gradients(
    parts: tuple[Images, ...], states: list[list[Tensor]], output: StudentOutput
) -> Iterator[tuple[Images, list[Tensor], dict[str, Tensor], Tensor | None]]:
    """Yield images, random state and gradients of each part; nothing if the loss does not depend on the network."""
    wanted = {layer: rows.grad for layer, rows in output.patterns.items() if rows.grad is not None}
    logits = None if output.logits is None else output.logits.grad
    start = 0
    for part, state in zip(parts, states, strict=True) if wanted or logits is not None else ():
        own = slice(start, start + len(part))
        yield part, state, {layer: rows[own] for layer, rows in wanted.items()}, None if logits is None else logits[own]
        start += len(part)


def _with_gradient(
    output: StudentOutput, patterns: dict[str, Tensor], logits: Tensor | None
) -> tuple[list[Tensor], list[Tensor]]:
    found = [(output.patterns[layer], gradient) for layer, gradient in patterns.items()]
    if logits is not None and output.logits is not None:
        found.append((output.logits, logits))
    found = [(rows, gradient) for rows, gradient in found if rows.requires_grad]
    return [rows for rows, _ in found], [gradient for _, gradient in found]


def _random_state(device: torch.device) -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_random_state(state: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
