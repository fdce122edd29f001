"""Adversarial images: the input that raises the loss most, within a distance in the maximum norm."""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from landscape.checks import integer_in, not_negative, positive
from landscape.side_effects import training_flags_kept

Span = tuple[Tensor, Tensor]  # inputs of a black and of a white pixel, that broadcast with images


def fgsm(model: nn.Module, images: Tensor, targets: Tensor, span: Span, *, size: float = 8 / 255) -> Tensor:
    """x + size · sign(∂L/∂x), cut to what an image can be: one step of `pgd` from the image itself.

    Source: Goodfellow et al. 2015, arXiv:1412.6572.
    """
    return pgd(model, images, targets, span, size=size, steps=1, step=size)


def pgd(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    span: Span,
    *,
    size: float = 8 / 255,
    steps: int = 10,
    step: float = 2 / 255,
    generator: Generator | None = None,
) -> Tensor:
    """Projected ascent of the cross entropy: x ← Π(x + step · sign(∂L/∂x)), in eval mode.

    Π is the nearest image within `size` of the first one, in the maximum norm, and between black and white.

    Args:
        model: the network; its parameters get no gradient.
        images: (N, channels, height, width), as the network takes them.
        targets: classes (N,).
        span: the inputs of a black and of a white pixel, such as `Images.pixel_span`; sizes are in units of the way
            from one to the other.
        size: radius; reference: 8/255 (CIFAR-10); on ImageNet Chen et al. 2022, section 5.4, train with 2/255.
        steps: of the ascent, at least 1; reference: 10.
        step: its length; reference: 2/255.
        generator: of a uniform start within the radius, as the reference has; default the image itself.
    Returns:
        The adversarial images.
    Raises:
        ValueError: if size is negative, step is not positive, or steps is below 1.
    Source: Madry et al. 2018, arXiv:1706.06083; reference: MadryLab/cifar10_challenge, config.json.
    """
    not_negative("size", size)
    integer_in("steps", steps, 1)
    if size:
        positive("step", step)
    black, white = (end.to(images) for end in span)
    unit = white - black
    low, high = torch.maximum(images - size * unit, black), torch.minimum(images + size * unit, white)
    x = images.detach()
    if generator is not None:
        drawn = torch.rand(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
        x = x + (2 * drawn.to(images.device) - 1) * size * unit
        x = torch.minimum(torch.maximum(x, low), high)
    with training_flags_kept(model), torch.enable_grad():
        model.eval()
        for _ in range(steps):
            leaf = x.detach().requires_grad_()
            loss = F.cross_entropy(model(leaf), targets, reduction="sum")
            ascent = torch.autograd.grad(loss, leaf)[0].sign()
            x = torch.minimum(torch.maximum(leaf.detach() + step * unit * ascent, low), high)
    return x.detach()
