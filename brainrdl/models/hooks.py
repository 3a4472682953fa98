"""Forward hooks on the modules of a network, always removed afterwards, and what passes with hooks need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from brainrdl._core.errors import BrainrdlError
from brainrdl.stimuli.inputs import Images


@contextmanager
def hooked(
    model: nn.Module,
    modules: Mapping[str, nn.Module],
    begin: Callable[[], None],
    keep: Callable[[str, object, int | None], None],
) -> Iterator[None]:
    """Call `begin` before each pass of `model` and `keep(name, output, n_images)` after each module in the block.

    Parameters
    ----------
    model : nn.Module
        The network whose passes are watched.
    modules : mapping of str to nn.Module
        Modules inside it, by name.
    begin : callable
        Called without arguments.
    keep : callable
        Called with the name of a module, its output, and the number of images in the pass, or None.

    Raises
    ------
    BrainrdlError
        In a forward pass, if the network cannot process images of that shape.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3))
    >>> with hooked(net, {"0": net[0]}, lambda: None, lambda name, _output, n_images: print(name, n_images)):
    ...     _ = net(torch.ones(2, 4))
    0 2
    """
    running: list[tuple[int, ...]] = []  # shape of the images in the forward pass that is running

    def start(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        begin()
        running[:] = [tuple(arg.shape) for arg in (*args, *named.values()) if isinstance(arg, Tensor)][:1]

    def read(layer: str, output: object) -> None:
        keep(layer, output, running[0][0] if running and running[0] else None)

    handles = []
    try:
        handles.append(model.register_forward_pre_hook(start, with_kwargs=True))
        handles.append(model.register_forward_hook(lambda *_: running.clear()))
        for name, module in modules.items():
            # The default argument binds the name now. Returning None keeps the output of the module.
            handles.append(module.register_forward_hook(lambda _module, _args, output, name=name: read(name, output)))
        yield
    except (RuntimeError, AssertionError, ValueError) as error:
        explained = explained_by_shape(error, running[0]) if running else None
        if explained is None:
            raise
        raise explained from error
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def every_call(
    model: nn.Module, enter: Callable[[object], None], leave: Callable[[str, nn.Module, object], None]
) -> Iterator[None]:
    """Call `enter(arguments)` before and `leave(name, module, output)` after each call of a module inside `model`.

    A module with several names is called by the first.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(4, 3))
    >>> with every_call(net, lambda _given: None, lambda name, module, _output: print(name, module)):
    ...     _ = net(torch.ones(2, 4))
    0 Linear(in_features=4, out_features=3, bias=True)
    """
    with ExitStack() as handles:
        for name, module in model.named_modules():
            if name:
                handles.enter_context(
                    module.register_forward_pre_hook(
                        lambda _module, args, named: enter((*args, *named.values())), with_kwargs=True
                    )
                )
                handles.enter_context(
                    module.register_forward_hook(lambda module, _args, output, name=name: leave(name, module, output))
                )
        yield


def eager(model: nn.Module) -> AbstractContextManager[Any]:
    """Run a network compiled by torch.compile as it was before: compiled code may ignore hooks that are added later.

    Examples
    --------
    >>> with eager(nn.Linear(2, 3)):
    ...     pass
    """
    # in each pass: hasattr of a module takes longer than this search
    compiled = any("_orig_mod" in module._modules or module._compiled_call_impl for module in model.modules())
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Use eval mode without gradient, then restore the mode of each module, including frozen ones.

    Examples
    --------
    >>> net = nn.Dropout()
    >>> with evaluating(net):
    ...     net.training
    False
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def probing(model: nn.Module, images: Images) -> Iterator[None]:
    """Use eval mode, no gradient and full precision for a pass that only tests `model`; keep torch's random state.

    Examples
    --------
    >>> net, before = nn.Dropout(), torch.get_rng_state()
    >>> with probing(net, torch.ones(1, 2)):
    ...     _ = torch.rand(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    devices = [images.device] if images.device.type == "cuda" else []
    full = torch.autocast(images.device.type, enabled=False)
    with torch.random.fork_rng(devices=devices), evaluating(model), full, eager(model):
        yield


def explained_by_shape(error: Exception, shape: Sequence[object]) -> BrainrdlError | None:
    """Add the shape of the images to an error in a network's forward pass; None for errors with other causes.

    Examples
    --------
    >>> str(explained_by_shape(RuntimeError("size mismatch"), (2, 1)))
    'the network cannot process images of shape (2, 1): size mismatch'
    """
    if isinstance(error, BrainrdlError | torch.OutOfMemoryError) or "CUDA" in str(error):
        return None
    where = f"images of shape {tuple(shape)}" + ", (n, c, h, w)" * (len(shape) == 4 and isinstance(shape[-1], int))
    other_type = "dtype" in str(error) or "bias type" in str(error) or "weight type" in str(error)
    remedy = "; give the inputs the type of the network's weights, for example inputs.astype(np.float32)"
    return BrainrdlError(f"the network cannot process {where}: {error}{remedy if other_type else ''}")


def tensors_in(output: object) -> Iterator[Tensor]:
    """List the tensors in an output: a tensor, or any nesting of mappings, lists, tuples and dataclasses.

    Examples
    --------
    >>> len(list(tensors_in({"a": torch.ones(2), "b": (torch.ones(1), None)})))
    2
    """
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from tensors_in(list(output.values()))
    elif isinstance(output, list | tuple):
        for part in output:
            yield from tensors_in(part)
    elif is_dataclass(output):
        yield from tensors_in([getattr(output, field.name) for field in fields(output)])


def first_tensor_in(output: object) -> Tensor | None:
    """Return the first tensor of real or complex numbers, not counting single numbers such as a loss.

    Examples
    --------
    >>> first_tensor_in({"loss": torch.tensor(0.5), "hidden": torch.ones(2, 3)}).shape
    torch.Size([2, 3])
    """
    return next((x for x in tensors_in(output) if x.ndim and (x.is_floating_point() or x.is_complex())), None)
