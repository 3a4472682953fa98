"""Students and teachers of the experiments; each function takes no argument that a recipe would have to give."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

CIFAR100 = ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276))  # mean and standard deviation of the training images


class Normalise(nn.Module):
    """Images in [0, 1] to mean 0 and standard deviation 1 per channel, inside the network."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Block(nn.Module):
    """Residual block of two convolutions (He et al. 2016, doi 10.1109/CVPR.2016.90), with a 1 x 1 shortcut."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        same = stride == 1 and n_in == n_out
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


def _head(width: int, n_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, n_classes))


def small_resnet(width: int = 24, n_classes: int = 100) -> nn.Module:
    """Two residual blocks after a convolution of stride 2; 172,540 parameters with width 24, 79,220 with width 16.

    Layers of interest: ``block1`` (2 x width channels, 8 x 8 positions for 32 pixels), ``block2`` (4 x width, 4 x 4).
    """
    stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(
        OrderedDict(
            normalise=Normalise(*CIFAR100),
            stem=stem,
            block1=Block(width, 2 * width, 2),
            block2=Block(2 * width, 4 * width, 2),
            head=_head(4 * width, n_classes),
        )
    )


def _cifar_resnet(depth: int, n_classes: int) -> nn.Module:
    n, widths = (depth - 2) // 6, (16, 32, 64)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    stages = OrderedDict()
    for number, (n_in, n_out) in enumerate(zip((16, *widths), widths, strict=False), start=1):
        first = Block(n_in, n_out, 1 if number == 1 else 2)
        stages[f"stage{number}"] = nn.Sequential(first, *(Block(n_out, n_out, 1) for _ in range(n - 1)))
    return nn.Sequential(OrderedDict(stem=stem, **stages, head=_head(64, n_classes)))


def resnet20() -> nn.Module:
    """ResNet-20 for CIFAR-100 (He et al. 2016), with 1 x 1 shortcuts."""
    return _cifar_resnet(20, 100)


def resnet56() -> nn.Module:
    """ResNet-56 for CIFAR-100 (He et al. 2016), with 1 x 1 shortcuts."""
    return _cifar_resnet(56, 100)


class _WideBlock(nn.Module):
    """Pre-activation block of wide residual networks."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(n_in), nn.BatchNorm2d(n_out)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(n_in, n_out, 1, stride, bias=False) if n_in != n_out else None

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.bn1(x))
        around = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(functional.relu(self.bn2(self.conv1(active)))) + around


def _wide_resnet(depth: int, factor: int, n_classes: int) -> nn.Module:
    n, widths = (depth - 4) // 6, (16 * factor, 32 * factor, 64 * factor)
    stages = OrderedDict()
    for number, (n_in, n_out) in enumerate(zip((16, *widths), widths, strict=False), start=1):
        first = _WideBlock(n_in, n_out, 1 if number == 1 else 2)
        stages[f"stage{number}"] = nn.Sequential(first, *(_WideBlock(n_out, n_out, 1) for _ in range(n - 1)))
    last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
    return nn.Sequential(OrderedDict(stem=stem, **stages, last=last, head=_head(widths[-1], n_classes)))


def wrn_16_2() -> nn.Module:
    """WRN-16-2 for CIFAR-100 (Zagoruyko & Komodakis 2016, doi 10.5244/C.30.87), without dropout."""
    return _wide_resnet(16, 2, 100)


def wrn_40_2() -> nn.Module:
    """WRN-40-2 for CIFAR-100 (Zagoruyko & Komodakis 2016, doi 10.5244/C.30.87), without dropout."""
    return _wide_resnet(40, 2, 100)


def mnist_cnn() -> nn.Module:
    """Two convolution stages of 32 and 64 channels and a hidden layer; the teacher of MNIST."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            conv2=nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
            fc1=nn.Sequential(nn.Flatten(), nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.5)),
            logits=nn.Linear(128, 10),
        )
    )


# Networks without convolutions over neighbouring pixels, for digits


class _Tokens(nn.Module):
    """Patches of 4 x 4 pixels as tokens: (n, 1, 28, 28) -> (n, 49, width), with a learned position."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, 4, 4)
        self.position = nn.Parameter(0.02 * torch.randn(1, 49, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images).flatten(2).mT + self.position


class _Pooled(nn.Module):
    """Mean of the normalised tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens).mean(1)


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class _MixerBlock(nn.Module):
    """Block of an MLP-Mixer (Tolstikhin et al. 2021): tokens are mixed, then channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens, self.channels = _mlp(49, 64), _mlp(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.tokens(self.norm1(x).mT).mT
        return x + self.channels(self.norm2(x))


class _AttentionBlock(nn.Module):
    """Block of a vision transformer (Dosovitskiy et al. 2021): attention, then channels."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.channels = _mlp(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.norm1(x)
        x = x + self.attention(rows, rows, rows, need_weights=False)[0]
        return x + self.channels(self.norm2(x))


def _of_tokens(width: int, blocks: list[nn.Module]) -> nn.Module:
    named = {f"block{number}": block for number, block in enumerate(blocks, start=1)}
    return nn.Sequential(
        OrderedDict(tokens=_Tokens(width), **named, pooled=_Pooled(width), logits=nn.Linear(width, 10))
    )


def mnist_mixer() -> nn.Module:
    """MLP-Mixer with 2 blocks of 32 channels for digits."""
    return _of_tokens(32, [_MixerBlock(32) for _ in range(2)])


def mnist_vit_teacher() -> nn.Module:
    """Vision transformer with 4 blocks of 64 channels for digits."""
    return _of_tokens(64, [_AttentionBlock(64, 4) for _ in range(4)])
