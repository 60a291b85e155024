"""The adversarial loss term, from a small network that distinguishes renderings from images, patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ffavatar_model.config import require


class PatchCritic(nn.Module):
    """A network that scores overlapping patches: high for images, low for renderings.

    It is the critic of Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (2017), with
    spectral normalisation (Miyato et al. 2018) instead of batch statistics.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i in range(3):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(channels, width << i, 4, 2, 1))]
            layers += [nn.LeakyReLU(0.2)]
            channels = width << i
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores (N, 1, H / 8, W / 8) of patches of images (N, 3, H, W) in 0 to 1."""
        return self.layers(2 * images - 1)


class Adversary:
    """A critic with its optimizer, which takes a step after each step of the model."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        """Settings of the adversarial term; weight 0 turns it off."""

        weight: float = 0.0
        begin: float = 0.5
        """Share of the run at which the term starts to grow; it reaches its weight a tenth of the run later."""
        width: int = 32
        lr: float = 2e-4

        def __post_init__(self) -> None:
            require(self.weight >= 0, "weight", self.weight, "0 (off) or more")
            require(0 <= self.begin < 1, "begin", self.begin, "0 to below 1")

    def __init__(self, config: Adversary.Config, device: torch.device) -> None:
        self.config = config
        self.critic = PatchCritic(config.width).to(device)
        self.optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.lr, betas=(0.0, 0.9))

    def weight(self, progress: float) -> float:
        """Return the term's weight at ``progress`` (0 to 1) of the run.

        It is 0 until ``begin`` and reaches the configured weight a tenth of the run later.
        """
        return self.config.weight * min(1.0, max(0.0, (progress - self.config.begin) / 0.1))

    def term(self, rendered: Tensor, progress: float) -> Tensor:
        """Return the model's loss term: minus the mean score of renderings, times the weight.

        Args:
            rendered: (B, D, 3, H, W) renderings.
            progress: Completed share of the run, 0 to 1.
        """
        self.critic.requires_grad_(False)
        score = self.critic(rendered.flatten(0, 1).clamp(0, 1)).float().mean()
        self.critic.requires_grad_(True)
        return -self.weight(progress) * score

    def train_step(self, rendered: Tensor, images: Tensor, world: int = 1) -> Tensor:
        """Take one step of the critic's optimizer (hinge loss).

        Args:
            rendered: (B, D, 3, H, W) renderings; no gradient flows into the model.
            images: (B, D, 3, H, W) real images, 0 to 1.
            world: Number of training workers, whose gradients are averaged.

        Returns:
            The critic's loss, detached.
        """
        fake = self.critic(rendered.detach().float().flatten(0, 1).clamp(0, 1))
        real = self.critic(images.float().flatten(0, 1))
        loss = (1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if world > 1:
            for parameter in self.critic.parameters():
                if parameter.grad is not None:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= world
        self.optimizer.step()
        return loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the critic and of its optimizer, for a checkpoint."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state returned by ``state_dict``."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
