"""The study on images: an EDM U-Net, and a Frechet distance in features of a classifier trained here. It is not FID."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.experiment import MethodRows
from datasets.images import Images
from methods.ddo.contenders import Start
from methods.ddo.ddo import diffusion_loss, lowest
from methods.ddo.networks import Classifier
from methods.shared.diffusion import Denoiser, edm_loss, heun
from methods.shared.frechet import frechet_distance

SAMPLER_STEPS = 18


def train_classifier(x: Tensor, y: Tensor, steps: int) -> Classifier:
    """A classifier of images x (N, 1, H, W) in [-1, 1], whose features the distance is measured in."""
    model = Classifier().to(x.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), device=x.device)
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
    return model.requires_grad_(False).eval()


@torch.no_grad()
def features_of(classifier: Classifier, x: Tensor) -> Tensor:
    """Features (N, 32) of images, on the classifier's own scale."""
    return torch.cat([classifier.features(part) for part in x.split(1_000)])


def scales_of(features: Tensor) -> Tensor:
    """Standard deviations (32,) of features (N, 32); 1 for a feature that never stirs."""
    std = features.std(dim=0)
    return std.where(std > 0, 1.0)


@dataclass(frozen=True)
class ImageStudy:
    """Images in [-1, 1] of one data set, and the features of two held-out parts.

    Attributes:
        train: (N, 1, H, W), what both the generator and the classifier are trained on.
        validation, test: features (M, 32) of real images that neither has seen, in units of `scale`.
        scale: (32,), the features' standard deviations on the training images: a classifier's have no scale of their
            own, and every replicate trains one.
        accuracy: of the classifier on test, in [0, 1].
        test_noise: (samples, 1, H, W), what every reported pool starts from, so that contenders are compared pair by
            pair. Validation has as many samples from noise of its own: a Frechet distance depends on their number.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    scale: Tensor
    classifier: Classifier
    accuracy: float
    test_noise: Tensor

    @classmethod
    def of(cls, data: Images, size: int, classifier_steps: int, samples: int, device: torch.device) -> ImageStudy:
        """Carves a fifth of the training images out for validation. Images are padded with black to `size` pixels."""
        margin = (size - data.train_x.shape[-1]) // 2
        train_x, test_x = (F.pad(2 * x - 1, [margin] * 4, value=-1.0).to(device) for x in (data.train_x, data.test_x))
        order = torch.randperm(len(train_x))
        held_out, kept = order[: len(order) // 5], order[len(order) // 5 :]
        classifier = train_classifier(train_x[kept], data.train_y[kept].to(device), classifier_steps)
        train, validation, test = (features_of(classifier, x) for x in (train_x[kept], train_x[held_out], test_x))
        with torch.no_grad():
            right = classifier.head(test).argmax(dim=1) == data.test_y.to(device)
        scale = scales_of(train)
        noise = torch.randn(samples, *train_x.shape[1:], device=device)
        return cls(
            train_x[kept], validation / scale, test / scale, scale, classifier, float(right.float().mean()), noise
        )  # fmt: skip

    def real(self, n: int) -> Tensor:
        return self.train[torch.randint(len(self.train), (n,), device=self.train.device)]

    def draw_from(self, denoiser: Denoiser, noise: Tensor) -> Tensor:
        """Images (n, 1, H, W) of a denoiser from noise of the same shape by Heun's method with 18 steps.

        Clamped to [-1, 1], as every image is that is shown or saved; features of anything beyond have no bound. What is
        infinite becomes NaN, for no clamping may make an image of a model that has diverged.
        """
        x = torch.cat([heun(denoiser, part, SAMPLER_STEPS) for part in noise.split(500)])
        return x.clamp(-1, 1).where(x.isfinite(), torch.nan)

    def draw(self, denoiser: Denoiser, n: int) -> Tensor:
        """n images from fresh noise."""
        return self.draw_from(denoiser, torch.randn(n, *self.train.shape[1:], device=self.train.device))

    def start(self, model: nn.Module) -> Start:
        return Start(model, self.real, self.draw, edm_loss, diffusion_loss, self.validate)

    def validate(self, denoiser: Denoiser) -> float:
        """Frechet distance of a pool of its own to the validation images."""
        return self.distance(self.draw(denoiser, len(self.test_noise)), self.validation)

    def distance(self, x: Tensor, held_out: Tensor) -> float:
        """Frechet distance of images x (n, 1, H, W) to features (M, 32) of held-out ones."""
        return frechet_distance(features_of(self.classifier, x) / self.scale, held_out)

    @property
    def few(self) -> int:
        """How many images the floor is taken of. The distance of few is biased upwards: compare at one number."""
        return min(len(self.validation), len(self.test_noise))

    def floor(self) -> float:
        """The distance of real images to real images, none of which the classifier was trained on."""
        return frechet_distance(self.validation[: self.few], self.test)

    def chosen(self, m: MethodRows, models: list[nn.Module]) -> nn.Module:
        """The best by validation, whose score there is recorded."""
        best, m["validation"] = lowest(models, self.validate)
        return best
