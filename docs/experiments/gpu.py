"""Experiment 5: full CIFAR-100 at the usual sizes, as recipes for one GPU (``docs/experiments/recipes``).

python -m docs.experiments.gpu docs.experiments.gpu:resnet20 runs/gpu/resnet20    # test error of a run
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

from brainrdl import datasets
from brainrdl.distillation import KnowledgeDistillation
from brainrdl.models import Network, build, fitted_student
from brainrdl.stimuli import default_transform
from docs.experiments import networks
from docs.experiments.measures import error_rate


def _for_cifar(module: nn.Module) -> Network:
    return Network(module, default_transform(32, networks.CIFAR100), 32)


def resnet20() -> Network:
    """ResNet-20 and the images that it expects."""
    return _for_cifar(networks.resnet20())


def resnet56() -> Network:
    """ResNet-56 and the images that it expects."""
    return _for_cifar(networks.resnet56())


def wrn_16_2() -> Network:
    """WRN-16-2 and the images that it expects."""
    return _for_cifar(networks.wrn_16_2())


def wrn_40_2() -> Network:
    """WRN-40-2 and the images that it expects."""
    return _for_cifar(networks.wrn_40_2())


def knowledge_distillation(network: str, weights: str, temperature: float = 4.0) -> KnowledgeDistillation:
    """Make the term of knowledge distillation, for a recipe."""
    return KnowledgeDistillation(fitted_student(build(network).module, weights), temperature)


def main() -> None:
    """Print the test error of a run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("network", help="package.module:factory, as in the recipe")
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--data", type=Path, help="folder of all data sets")
    asked = parser.parse_args()
    network = build(asked.network)
    student = fitted_student(network.module, asked.run / "weights.safetensors")
    test = datasets.load("cifar100", asked.data, train=False).stimuli.with_transform(network.transform)
    error, nll = error_rate(student, test)
    print(f"test error {error:.2%}, NLL {nll:.3f}, {len(test):,} images")


if __name__ == "__main__":
    main()
