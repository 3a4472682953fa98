"""Whether a loss on the output of a layer can train the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from brainrdl.models.hooks import eager, first_tensor_in, hooked


def gradient_problems(
    model: nn.Module,
    layers: Sequence[str],
    images: Float[Tensor, "n ..."],
    steps: Mapping[str, Iterable[int]] | None = None,
) -> dict[str, str]:
    """Say why a loss on the output of a layer would train nothing in the network, for the layers where this is so.

    Parameters
    ----------
    model : nn.Module
        The network, in the mode in which it will be trained. Its buffers and torch's random state are restored.
    layers : sequence of str
        Names as in `layer_names`.
    images : Tensor, shape (n, ...)
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

    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    devices = [images.device] if images.device.type == "cuda" else []
    modules = {layer: model.get_submodule(layer) for layer in layers}
    with (
        torch.random.fork_rng(devices=devices),
        torch.enable_grad(),
        hooked(model, modules, lambda: None, keep),
        eager(model),
    ):
        model(images)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    read = {
        layer: [calls[step] for step in (steps or {}).get(layer, (-1,))] for layer, calls in problems.items() if calls
    }
    return {layer: found[0] for layer, calls in read.items() if (found := list(filter(None, calls)))}
