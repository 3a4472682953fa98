"""Whether a loss on the output of a layer can train the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from brainrdl.models.hooks import eager, first_tensor_in, hooked
from brainrdl.models.rows import same_for_all
from brainrdl.stimuli.inputs import Images, run_network


def gradient_problems(
    model: nn.Module,
    layers: Sequence[str],
    images: Images,
    steps: Mapping[str, Iterable[int]] | None = None,
) -> dict[str, str]:
    """Say why a loss on the output of a layer would train nothing in the network, for the layers where this is so.

    Parameters
    ----------
    model : nn.Module
        The network, in the mode in which it will be trained. Its buffers and torch's random state are restored.
    layers : sequence of str
        Names as in `layer_names`.
    images : Tensor, shape (n, ...), or Inputs
        Images for one pass with gradient.
    steps : mapping of str to iterable of int, optional
        Calls of a layer that are read, as in `read_layers`; the last one by default.

    Returns
    -------
    dict of str to str
        The reason for each layer whose output has no gradient.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3).requires_grad_(False), nn.Linear(3, 2))
    >>> gradient_problems(model, ["0", "1"], torch.ones(2, 4))
    {'0': 'no parameter that is trained comes before it, or its input is detached'}
    """
    problems: dict[str, list[str]] = {layer: [] for layer in layers}
    outputs: dict[str, list[Tensor | None]] = {layer: [] for layer in layers}

    def keep(layer: str, output: object, _n_images: int | None) -> None:
        problem = ""
        found = first_tensor_in(output)
        if not torch.is_grad_enabled():
            problem = (
                "it runs without gradient, in torch.no_grad() or in checkpointing with use_reentrant=True (set "
                "use_reentrant=False)"
            )
        elif found is None or not found.requires_grad:
            problem = "no parameter that is trained comes before it, or its input is detached"
        problems[layer].append(problem)
        # A copy, because later modules may change the output in place.
        outputs[layer].append(None if problem or found is None else found.clone())

    asked = [(layer, step) for layer in layers for step in (steps or {}).get(layer, (-1,))]
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    devices = [images.device] if images.device.type == "cuda" else []
    modules = {layer: model.get_submodule(layer) for layer in layers}
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        hooked(model, modules, lambda: None, keep),
        eager(model),
    ):
        run_network(model, images)
        for layer, step in asked:
            if outputs[layer] and not problems[layer][step] and _is_flat(outputs[layer][step], model):
                problems[layer][step] = (
                    "its gradient is zero for every parameter, as after a sign, a rounding, a comparison or dead units"
                )
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    read = [(layer, problems[layer][step]) for layer, step in asked if problems[layer]]
    return {layer: problem for layer, problem in reversed(read) if problem}


def _is_flat(output: Tensor | None, model: nn.Module) -> bool:
    """Whether no parameter that is trained changes an output, although it is connected to them."""
    if output is None or same_for_all(output.flatten(1)):  # there is a warning about equal rows
        return False
    real = torch.view_as_real(output) if output.is_complex() else output
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        loss = (real * torch.rand_like(real)).sum()
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    except RuntimeError:  # checkpointing with use_reentrant=True before the layer does not allow torch.autograd.grad
        return False
    return not any(gradient is not None and bool(gradient.any()) for gradient in gradients)
