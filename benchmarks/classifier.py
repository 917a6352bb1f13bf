"""Trains the digit classifier of the image metrics on MNIST and writes it into the package."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

import molgen.modalities.image as package
from molgen.core.rng import generator
from molgen.io.files import atomic
from molgen.modalities.image import ImageModality
from molgen.modalities.image.classifier import ASSET, Classifier, embed


def train(
    images: np.ndarray, labels: np.ndarray, epochs: int, seed: int, batch_size: int = 128
) -> Classifier:
    """Trains a classifier for `epochs` passes over slightly moved images; deterministic for a seed.

    Arguments:
        images: `(n, 28, 28, 1)` uint8.
        labels: `(n,)` digits.
        epochs: passes over the images.
        seed: seed of weights, order and movements.
        batch_size: images per step.
    """
    model = Classifier(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    per_epoch = len(images) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * per_epoch)
    data, target = torch.tensor(images), torch.tensor(labels)
    source = generator(seed, 1)
    for epoch in range(epochs):
        start, total = time.monotonic(), 0.0
        order = torch.randperm(len(data), generator=source)[: per_epoch * batch_size]
        for rows in torch.split(order, batch_size):
            x = moved(data[rows].float() / 127.5 - 1, source)
            loss = F.cross_entropy(model(x)[0], target[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch + 1}: loss {total / per_epoch:.4f}, {time.monotonic() - start:.0f} s", flush=True
        )
    return model.eval()


def moved(x: Tensor, source: torch.Generator) -> Tensor:
    """Images `(B, 28, 28, 1)` rotated by up to 10 degrees, scaled by up to 10 %, shifted by up to 2."""
    angle, zoom, down, right = (torch.rand(4, len(x), generator=source) * 2 - 1).unbind()
    angle, zoom = angle * math.radians(10), 1 + zoom * 0.1
    cos, sin, step = zoom * angle.cos(), zoom * angle.sin(), 2 / 28
    rows = [torch.stack([cos, -sin, 2 * step * right], 1), torch.stack([sin, cos, 2 * step * down], 1)]
    places = F.affine_grid(torch.stack(rows, 1), [len(x), 1, 28, 28], align_corners=False)
    # Padding outside the picture is zero: shift levels so that zero is black.
    turned = F.grid_sample(x.movedim(-1, 1) + 1, places, align_corners=False) - 1
    return turned.movedim(1, -1)


def main(argv: list[str]) -> None:
    """Trains, measures on the test images, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks classifier", description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(package.__file__).parent / "assets" / ASSET)
    options = parser.parse_args(argv)
    source = ImageModality().datasets["mnist"]
    data, test = source.load("train"), source.load("test")
    model = train(np.asarray(data.items), data.labels["digit"], options.epochs, options.seed)
    weights = {name: value.half() for name, value in model.state_dict().items()}
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    accuracy = float((embed(test, model)[0].argmax(1) == test.labels["digit"]).mean())
    print(f"test accuracy {accuracy:.4f} of the float16 weights")
    header = {
        "test_accuracy": f"{accuracy:.4f}",
        "training": json.dumps({"data": "mnist/train", "epochs": options.epochs, "seed": options.seed}),
        "network": "conv 24 - conv 48 - dense 96 - 10",
    }
    with atomic(options.out) as temporary:
        temporary.write_bytes(save(weights, metadata=header))
