"""Generators that put sensors on a picture or take them off, and the discriminators that judge them.

Two sizes: live and full.

- `LiveGenerator`: a U-Net of depthwise separable convolutions (Howard et al. 2017, MobileNets), about 0.06
  GMAC at 128 pixels, 0.25 at 256;
  of dense ones where training is on a CPU.
- `FullGenerator`: of the size of SMIRK's generator (Retsinas et al., CVPR 2024): U-Net, 32 features, five
  residual blocks, 224 pixels.
- `PatchDiscriminator`: PatchGAN (Isola et al., CVPR 2017, section 3.2.2), 70x70 pixels per judgement, or
  34x34 for live.

A generator gives a `Translation`: a picture and a soft mask of what it changed. The picture is `base + mask *
(paint - base)`, so what the mask leaves out is the base, untouched: minimal change (Büchner et al., ACIVS
2023) by construction, and the mask of sensor removal is the map of what is covered. Pictures are (N, 3, H, W)
in 0..1; H and W are multiples of 16.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from eifer_ros.errors import InputError

STRIDE = 16
"""Sides of pictures are multiples of this: the coarsest features have one value per 16 pixels."""


class Translation(NamedTuple):
    """What a generator made: picture (N, 3, H, W) 0..1; mask (N, 1, H, W) 0..1, how much of each pixel is
    new, and its logits.
    """

    picture: torch.Tensor
    mask: torch.Tensor
    logits: torch.Tensor


def composite(base: torch.Tensor, paint: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`base` where mask is 0, `paint` where it is 1: base + mask * (paint - base), exactly base where the
    mask is exactly 0.
    """
    return base + mask * (paint - base)


def _base_of(features: torch.Tensor, base: torch.Tensor | None) -> torch.Tensor:
    if features.ndim != 4 or features.shape[2] % STRIDE or features.shape[3] % STRIDE:
        raise InputError(
            f"a generator takes (N, C, H, W) with H and W multiples of {STRIDE}; got {tuple(features.shape)}"
        )
    picture = features[:, :3] if base is None else base
    if picture.shape[1] != 3 or picture.shape[2:] != features.shape[2:] or len(picture) != len(features):
        raise InputError(
            f"the picture to change must be {(len(features), 3, *features.shape[2:])}; got {tuple(picture.shape)}"
        )
    return picture


class Separable(nn.Module):  # type: ignore[misc, unused-ignore]
    """Depthwise kernel x kernel, then 1x1, batch norm and ReLU; joined to its input where the shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, stride, kernel // 2, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H / stride, W / stride)."""
        y = torch.relu(self.norm(self.pointwise(self.depthwise(x))))
        return x + y if self.residual else y


class Dense(nn.Module):  # type: ignore[misc, unused-ignore]
    """3x3 over all channels, batch norm and ReLU; joined to its input where the shape allows."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, outputs, H / stride, W / stride)."""
        y = torch.relu(self.norm(self.convolution(x)))
        return x + y if self.residual else y


class LiveGenerator(nn.Module):  # type: ignore[misc, unused-ignore]
    """U-Net on 2x2 pixels per cell: four scales down to one value per 16 pixels, from where the whole face is
    seen.

    in_channels: 3 for a picture alone, 6 for a head render beside a masked picture, or any other. width:
    channels of the finest scale. dense: full convolutions in place of separable ones. They cost twice the
    multiplications and train faster on a CPU, whose memory depthwise layers keep waiting; four times the
    weights for the same channels.
    """

    def __init__(self, in_channels: int = 6, width: int = 24, dense: bool = False) -> None:
        super().__init__()
        if in_channels < 1 or width < 1:
            raise InputError(f"in_channels and width must be positive; got {in_channels} and {width}")
        self.in_channels = in_channels
        self.width = width
        self.dense = dense
        sizes = (width, 2 * width, 4 * width, 6 * width)
        repeats = (1, 1, 2, 3) if dense else (2, 2, 2, 3)

        def block(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Module:
            return Dense(inputs, outputs, stride) if dense else Separable(inputs, outputs, stride, kernel)

        self.stem = nn.Sequential(
            nn.Conv2d(4 * in_channels, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.down = nn.ModuleList()
        for level, (size, repeat) in enumerate(zip(sizes, repeats, strict=True)):
            entry = [] if level == 0 else [block(sizes[level - 1], size, stride=2)]
            kernel = 5 if level == len(sizes) - 1 else 3
            self.down.append(
                nn.Sequential(*entry, *(block(size, size, kernel=kernel) for _ in range(repeat)))
            )
        self.up = nn.ModuleList()
        for coarse, fine in pairwise(sizes[::-1]):
            self.up.append(
                nn.Sequential(
                    nn.Conv2d(fine + coarse, fine, 1, bias=False), block(fine, fine), block(fine, fine)
                )
            )
        self.out = nn.Conv2d(width, 16, 1)

    def paint(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What would be painted (N, 3, H, W) 0..1 and the logits of where (N, 1, H, W), from features (N,
        in_channels, H, W).
        """
        x = self.stem(F.pixel_unshuffle(features, 2))
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat([skips.pop(), F.interpolate(x, scale_factor=2.0, mode="nearest")], dim=1))
        output = F.pixel_shuffle(self.out(x), 2)
        return torch.sigmoid(output[:, :3]), output[:, 3:]

    def forward(self, features: torch.Tensor, base: torch.Tensor | None = None) -> Translation:
        """From features (N, in_channels, H, W); base (N, 3, H, W) is what gets changed, the first three of
        the features by default.

        Raises InputError for sides that are no multiple of 16 or a base of another size.
        """
        picture = _base_of(features, base)
        paint, logits = self.paint(features)
        mask = torch.sigmoid(logits)
        return Translation(composite(picture, paint, mask), mask, logits)


class _Double(nn.Sequential):  # type: ignore[misc, unused-ignore]
    """Twice 3x3, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for source in (inputs, outputs):
            layers += [
                nn.Conv2d(source, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
        super().__init__(*layers)


class _Residual(nn.Module):  # type: ignore[misc, unused-ignore]
    """x + two 3x3 convolutions."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(size, size, 3, padding=1, bias=False),
            nn.BatchNorm2d(size),
            nn.ReLU(),
            nn.Conv2d(size, size, 3, padding=1, bias=False),
            nn.BatchNorm2d(size),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same shape."""
        return torch.as_tensor(x + self.body(x))


class FullGenerator(nn.Module):  # type: ignore[misc, unused-ignore]
    """U-Net with four halvings and five residual blocks at the bottom: with 32 features 31 M parameters, 14
    GMAC at 224.

    in_channels: 6 for a head render beside a masked picture. whole: paint the whole picture as SMIRK does
    (the mask is 1 everywhere) instead of a change to the base.
    """

    def __init__(self, in_channels: int = 6, width: int = 32, blocks: int = 5, whole: bool = False) -> None:
        super().__init__()
        if in_channels < 1 or width < 1 or blocks < 0:
            raise InputError(
                f"in_channels and width must be positive; got {in_channels}, {width} and {blocks} blocks"
            )
        self.in_channels = in_channels
        self.whole = whole
        sizes = [width * 2**level for level in range(5)]
        self.down = nn.ModuleList(
            [_Double(a, b) for a, b in zip([in_channels, *sizes[:-1]], sizes, strict=True)]
        )
        self.middle = nn.Sequential(*(_Residual(sizes[-1]) for _ in range(blocks)))
        pairs = list(pairwise(sizes))[::-1]
        self.grow = nn.ModuleList([nn.ConvTranspose2d(coarse, fine, 2, 2) for fine, coarse in pairs])
        self.up = nn.ModuleList([_Double(2 * fine, fine) for fine, _ in pairs])
        self.out = nn.Conv2d(width, 4, 1)

    def forward(self, features: torch.Tensor, base: torch.Tensor | None = None) -> Translation:
        """From features (N, in_channels, H, W) and, where it is not their first three channels, the picture to change."""
        picture = _base_of(features, base)
        skips = []
        x = features
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        x = self.middle(skips.pop())
        for grow, block in zip(self.grow, self.up, strict=True):
            x = block(torch.cat([skips.pop(), grow(x)], dim=1))
        output = self.out(x)
        paint = torch.sigmoid(output[:, :3])
        logits = output[:, 3:]
        if self.whole:
            return Translation(paint, torch.ones_like(logits), torch.full_like(logits, torch.inf))
        mask = torch.sigmoid(logits)
        return Translation(composite(picture, paint, mask), mask, logits)


class PatchDiscriminator(nn.Module):  # type: ignore[misc, unused-ignore]
    """Says for every patch whether it is real: (N, 1, h, w) scores without a sigmoid, for the least-squares
    loss (Mao et al. 2017).

    layers: halvings; 3 judge patches of 70x70 pixels, 2 of 34x34. Spectral normalisation (Miyato et al. 2018)
    keeps small data sets stable; instance norm, as in CycleGAN, where it is off.
    """

    def __init__(self, in_channels: int = 3, width: int = 64, layers: int = 3, spectral: bool = True) -> None:
        super().__init__()
        if in_channels < 1 or width < 1 or layers < 1:
            raise InputError(
                f"in_channels, width and layers must be positive; got {in_channels}, {width} and {layers}"
            )
        self.receptive_field = 1
        sizes = [in_channels, *(width * 2 ** min(level, 3) for level in range(layers + 1)), 1]
        strides = [2] * layers + [1, 1]
        for stride in reversed(strides):
            self.receptive_field = (self.receptive_field - 1) * stride + 4
        body: list[nn.Module] = []
        for index, stride in enumerate(strides):
            last = index == len(strides) - 1
            layer: nn.Module = nn.Conv2d(sizes[index], sizes[index + 1], 4, stride, 1)
            body.append(nn.utils.parametrizations.spectral_norm(layer) if spectral else layer)
            if not last and not spectral and index > 0:
                body.append(nn.InstanceNorm2d(sizes[index + 1]))
            if not last:
                body.append(nn.LeakyReLU(0.2))
        self.body = nn.Sequential(*body)

    @classmethod
    def full(cls, in_channels: int = 3) -> PatchDiscriminator:
        """70x70 patches, 64 features: Isola et al.'s default, for pictures of 224 and more."""
        return cls(in_channels, 64, 3)

    @classmethod
    def live(cls, in_channels: int = 3) -> PatchDiscriminator:
        """34x34 patches, 32 features: about a fifteenth of the work, for pictures of 128."""
        return cls(in_channels, 32, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 1, h, w) scores of pictures (N, in_channels, H, W)."""
        return torch.as_tensor(self.body(pictures))


def multiply_accumulates(module: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-accumulate operations of the convolutions and linear layers in one call of `module`; norms and
    activations not counted.
    """
    total = 0

    def count(layer: nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        elif isinstance(layer, nn.ConvTranspose2d):
            total += (
                output.numel()
                * layer.in_channels
                // layer.groups
                * layer.kernel_size[0]
                * layer.kernel_size[1]
                // (layer.stride[0] * layer.stride[1])
            )
        elif isinstance(layer, nn.Conv2d):
            total += (
                output.numel()
                * layer.in_channels
                // layer.groups
                * layer.kernel_size[0]
                * layer.kernel_size[1]
            )

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    training = module.training
    try:
        module.eval()
        with torch.no_grad():
            module(*inputs)
    finally:
        module.train(training)
        for hook in hooks:
            hook.remove()
    return total
