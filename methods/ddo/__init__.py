"""Direct Discriminative Optimization (Zheng et al.; ICML 2025)."""

from methods.ddo.ddo import (
    Recipe,
    Round,
    ddo_loss,
    ddo_round,
    diffusion_log_ratio,
    diffusion_loss,
    finetune,
    likelihood_loss,
    log_ratio,
    self_play,
)

__all__ = [
    "Recipe",
    "Round",
    "ddo_loss",
    "ddo_round",
    "diffusion_log_ratio",
    "diffusion_loss",
    "finetune",
    "likelihood_loss",
    "log_ratio",
    "self_play",
]
