"""The generators of torch: one seed for all devices, as ``torch.manual_seed`` sets it, without its cost on a CPU."""

from __future__ import annotations

import torch


def seed_all(seed: int) -> None:
    """Seed torch's generators of all devices.

    Where there is no accelerator, only the generator of the CPU is seeded: ``torch.manual_seed`` would also record its
    caller for each kind of device, which takes longer than a step of a small network.

    Parameters
    ----------
    seed : int
        The seed.

    Examples
    --------
    >>> seed_all(3)
    >>> first = torch.rand(2)
    >>> seed_all(3)
    >>> bool((torch.rand(2) == first).all())
    True
    """
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(int(seed))
