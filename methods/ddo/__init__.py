"""Direct Discriminative Optimization (Zheng et al.; ICML 2025).

The loss of one step, from the log-likelihoods that your own model and its frozen copy give to real data and to samples
of the copy:

    import torch
    from methods.ddo import ddo_loss

    of_real, of_fake = torch.randn(16, requires_grad=True), torch.randn(16)  # log p - log p_ref, one a sample
    loss = ddo_loss(of_real, of_fake, alpha=1.0, beta=1.0)
    loss.backward()
"""

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
