"""The small digit classifier whose penultimate layer gives the features of the image metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import CheckpointError, DataError
from molgen.core.rng import generator
from molgen.modalities.image.codec import stacked

SHAPE = (28, 28, 1)
FEATURES = 96
CLASSES = 10
ASSET = "classifier.safetensors"


@final
class Classifier(nn.Module):
    """Two convolutions with pooling (24 and 48 channels), 96 rectified units, 10 classes: 237,514 parameters.

    Arguments:
        seed: seed of the initial weights.

    Example:
        >>> classes, features = Classifier()(torch.zeros(2, 28, 28, 1))
        >>> classes.shape, features.shape
        (torch.Size([2, 10]), torch.Size([2, 96]))
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1)
        self.dense = nn.Linear(48 * 7 * 7, FEATURES)
        self.out = nn.Linear(FEATURES, CLASSES)
        # Drawn again from an own generator, so that the weights never depend on the global one.
        source = generator(seed)
        for layer in (self.conv1, self.conv2, self.dense, self.out):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=source)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, 10)` and features `(B, 96)` of images `(B, 28, 28, 1)` in [-1, 1]."""
        h = F.max_pool2d(F.relu(self.conv1(x.movedim(-1, 1))), 2)
        h = F.max_pool2d(F.relu(self.conv2(h)), 2)
        features = F.relu(self.dense(h.flatten(1)))
        return self.out(features), features


@lru_cache(maxsize=1)
def pretrained() -> Classifier:
    """The shipped classifier (float16 weights); the file's header has its accuracy on MNIST's test images."""
    data = resources.files("molgen.modalities.image").joinpath("assets", ASSET).read_bytes()
    model = Classifier()
    try:
        model.load_state_dict({name: value.float() for name, value in load(data).items()})
    except (SafetensorError, RuntimeError) as error:
        text = str(error).splitlines()[0]
        raise CheckpointError(f"{ASSET}: {text}; make it with `python -m benchmarks classifier`") from None
    return model.eval().requires_grad_(False)


def embed(
    records: Sequence[np.ndarray] | np.ndarray, model: Classifier | None = None, batch_size: int = 500
) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities `(n, 10)` and features `(n, 96)`, float64, of images 28 x 28 x 1 uint8.

    Arguments:
        records: the images.
        model: a classifier; the shipped one by default.
        batch_size: images per pass.
    """
    images = stacked(records)
    if images.shape[1:] != SHAPE:
        got = " x ".join(map(str, images.shape[1:]))
        raise DataError(
            f"images of size {got}, expected 28 x 28 x 1 for the digit classifier", fix='use features="pca"'
        )
    model = pretrained() if model is None else model
    classes, features = [], []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            x = torch.from_numpy(images[start : start + batch_size].astype(np.float32)) / 127.5 - 1
            logits, last = model(x)
            classes.append(logits.softmax(1).double().numpy())
            features.append(last.double().numpy())
    return np.concatenate(classes), np.concatenate(features)


def classify(records: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """The digit `(n,)` that the shipped classifier sees in each image, to score conditional samples."""
    found: np.ndarray = embed(records)[0].argmax(1)
    return found
