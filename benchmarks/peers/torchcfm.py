"""torchcfm: a step of flow matching with optimal transport inside the batch, of the same network."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F
from torchcfm.conditional_flow_matching import ExactOptimalTransportConditionalFlowMatcher

from benchmarks.peers.shared import Step, digits
from benchmarks.peers.timing import Contest
from molgen.core.rng import BatchRandom, generator
from molgen.models.flow import ContinuousFlow

_BATCH = 64


def contests() -> Iterator[Contest]:
    """A training step on images: pairing, path, loss, and optimiser."""
    images = digits(_BATCH)
    model = ContinuousFlow("image", trunk_options={"width": 16}, label_dropout=0.0)
    model.fit(images, validation=images[:1], max_steps=1, batch_size=_BATCH)
    batch = model.encode(images)
    (name,) = model.view.fields
    network = copy.deepcopy(model.trained)
    matcher = ExactOptimalTransportConditionalFlowMatcher(sigma=0.0)

    def ours() -> Tensor:
        terms = model.losses(model.trained, batch, BatchRandom(generator(0)))
        return torch.stack(list(terms.values())).sum()

    def theirs() -> Tensor:
        data = batch.values[name]
        t, x, velocity = matcher.sample_location_and_conditional_flow(torch.randn_like(data), data)
        return F.mse_loss(network({name: x}, 1 - t, batch.mask, {})[name], velocity)

    yield Contest(
        "flow matching, training step",
        f"{_BATCH} images, paired with noise by optimal transport, the same U-Net",
        Step(model.trained, ours),
        Step(network, theirs),
        (model.num_parameters, model.num_parameters),
        _BATCH,
        "images",
    )
