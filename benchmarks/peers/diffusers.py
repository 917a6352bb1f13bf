"""diffusers: a U-Net of the same size on images of 28 x 28."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor
from torch.nn import functional as F

from benchmarks.peers.shared import Step, digits, nearest, size
from benchmarks.peers.timing import Contest
from molgen import DiffusionModel
from molgen.core.rng import BatchRandom, generator

_BATCH, _DRAWN, _STEPS, _WIDTH = 16, 4, 50, 48


def contests() -> Iterator[Contest]:
    """A training step, and sampling in 50 steps: on single pixels and on patches."""
    images = digits(_BATCH)
    for patch, how in ((1, "molgen on single pixels"), (2, "molgen on 2 x 2 pixels, its default")):
        model = DiffusionModel("image", trunk_options={"width": _WIDTH, "patch": patch}, label_dropout=0.0)
        model.fit(images, validation=images[:1], max_steps=1, batch_size=_BATCH)
        unet: Any = nearest(model.num_parameters, _unet, range(16, 129, 8))
        sizes = (model.num_parameters, size(unet))
        how += f", {_WIDTH} channels, the peer on single ones with {unet.config.block_out_channels[0]}"
        yield Contest(
            "diffusion, training step",
            f"{_BATCH} images, {how}",
            Step(model.trained, partial(_loss, model, images)),
            Step(unet, partial(_their_loss, unet, images, DDIMScheduler())),
            sizes,
            _BATCH,
            "images",
        )
        pipeline = DDIMPipeline(unet.eval(), DDIMScheduler())
        pipeline.set_progress_bar_config(disable=True)
        yield Contest(
            f"diffusion, sampling in {_STEPS} steps",
            f"{_DRAWN} images, {how}",
            partial(model.sample, _DRAWN, steps=_STEPS, solver="euler"),
            partial(pipeline, batch_size=_DRAWN, num_inference_steps=_STEPS, output_type="np"),
            sizes,
            _DRAWN,
            "images",
        )


def _unet(width: int) -> Any:
    """The network of the peer with our blocks: one for each resolution, attention at the coarser one."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(width, 2 * width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=width // 2,
        norm_num_groups=8,
        add_attention=False,
    )


def _loss(model: DiffusionModel, images: Any) -> Tensor:
    batch = model.encode(images)
    terms = model.losses(model.trained, batch, BatchRandom(generator(0)))
    return torch.stack(list(terms.values())).sum()


def _their_loss(unet: Any, images: Any, scheduler: Any) -> Tensor:
    pixels = torch.stack([torch.from_numpy(image) for image in images])
    clean = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    noise = torch.randn_like(clean)
    times = torch.randint(0, scheduler.config.num_train_timesteps, (len(clean),))
    noisy = scheduler.add_noise(clean, noise, times)
    return F.mse_loss(unet(noisy, times).sample, noise)
