"""`ImageModality`: 8-bit images of one size, as reals or as bits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self, final

import numpy as np

from molgen.core.batch import Sample
from molgen.core.conditions import Condition, Label
from molgen.core.errors import ConfigError
from molgen.core.fields import Categorical, Continuous, Field
from molgen.core.modality import Modality, View
from molgen.core.records import Records
from molgen.core.trunk import Trunk, TrunkSpec
from molgen.modalities.image.codec import checked, size_of, stacked

FIELD = "image"

DEFAULTS = {
    "batch_size": 64,
    "lr": 1e-3,
    "solver": "dpm_2m",
    "steps": 25,
    "time_density": (2.5, 16.0),  # nine tenths of the training at noise from 0.04 to 1.9, as EDM's
    "sample_batch": 256,
}


@final
class ImageModality(Modality):
    """Images: `numpy.ndarray`, uint8, `(H, W, C)`, all of one size.

    Two views: ``pixels`` maps level `v` to the real number `v / 127.5 - 1` and back exactly; ``binary``
    (grey images only) is one bit per pixel, on from level 128, and loses nothing where the data hold only
    the levels 0 and 255; it then comes first.

    Arguments:
        shape: `(H, W, C)`; the default is MNIST's.
        mean: mean of the data in [-1, 1].
        sd: standard deviation of the data in [-1, 1].
        lit: share of pixels from level 128 up.
        binarised: whether the data hold only the levels 0 and 255.
        labels: number of classes of each label.
        shares: share of the pixels that each of the 256 levels has, or None if unknown.

    Example:
        >>> modality = ImageModality((2, 2, 1))
        >>> image = np.array([[[0], [255]], [[100], [7]]], dtype=np.uint8)
        >>> sample = modality.encode(image, "pixels")
        >>> bool((modality.decode(sample, "pixels") == image).all())
        True
    """

    name = "image"
    toolkit_path = "molgen.modalities.image.toolkit:ImageToolkit"

    def __init__(
        self,
        shape: Sequence[int] = (28, 28, 1),
        mean: float = -0.7386,
        sd: float = 0.6164,
        lit: float = 0.1323,
        binarised: bool = False,
        labels: Mapping[str, int] | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(f"shape={tuple(shape)}: expected (height, width, channels), each at least 1")
        self.shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.extent = self.shape[:2]
        self.mean, self.sd, self.lit, self.binarised = float(mean), float(sd), float(lit), bool(binarised)
        self.labels = {"digit": 10} if labels is None else {k: int(v) for k, v in labels.items()}
        self.shares = None if shares is None else [float(share) for share in shares]

    @cached_property
    def views(self) -> Mapping[str, View]:
        reals: dict[str, Field] = {
            FIELD: Continuous(self.shape[2], levels=256, shares=self.shares, mean=self.mean, sd=self.sd),
        }
        views = {"pixels": View("pixels", reals, ordered=True, defaults=DEFAULTS)}
        if self.shape[2] == 1:
            bits: dict[str, Field] = {FIELD: Categorical(2, marginal=[1 - self.lit, self.lit])}
            views["binary"] = View("binary", bits, bijective=self.binarised, ordered=True)
        return dict(reversed(views.items())) if self.binarised else views

    def encode(self, record: Any, view: str) -> Sample:
        image = checked(record, self.shape)
        if view == "binary":
            return {FIELD: (image[:, :, 0] >= 128).astype(np.uint8)}
        return {FIELD: image.astype(np.float32) / np.float32(127.5) - np.float32(1)}

    def decode(self, sample: Sample, view: str) -> np.ndarray:
        values = sample[FIELD]
        if view == "binary":
            return ((values > 0) * 255).astype(np.uint8)[:, :, None]
        levels = np.nan_to_num(np.asarray(values, np.float64) * 127.5 + 127.5)
        image: np.ndarray = np.rint(levels).clip(0, 255).astype(np.uint8)
        return image

    def fit_to(self, records: Sequence[Any]) -> Self:
        """The modality with the shape, scale and labels of these images; `DataError` for mixed shapes."""
        stack = stacked(records)
        # Counting levels keeps memory at one byte a pixel, where a mean of float64 copies would not.
        counts = np.bincount(stack.ravel(), minlength=256).astype(np.float64)
        levels = np.arange(256) / 127.5 - 1
        mean = float(counts @ levels / counts.sum())
        sd = math.sqrt(float(counts @ (levels - mean) ** 2 / counts.sum()))
        labels = {}
        for name, values in (records.labels if isinstance(records, Records) else {}).items():
            known = np.asarray(values, dtype=np.float64)
            known = known[np.isfinite(known) & (known >= 0)]
            if len(known) and (known == np.rint(known)).all():
                labels[name] = int(known.max()) + 1
        return type(self)(
            stack.shape[1:],
            round(mean, 4),
            round(sd, 4) or 1.0,
            round(float(counts[128:].sum() / counts.sum()), 4),
            bool(counts[1:255].sum() == 0),
            labels,
            (counts / counts.sum()).round(6).tolist(),
        )

    def draw_sizes(self, seed: int, indices: Sequence[int], **fixed: Any) -> list[int]:
        if fixed:
            raise ConfigError(f"images have no {', '.join(fixed)} to fix: all are {size_of(self.shape)}")
        return [math.prod(self.extent or ())] * len(indices)

    def logsize_of(self, n: int) -> float:
        return 0.0 if n == math.prod(self.extent or ()) else -math.inf

    def config(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "mean": self.mean,
            "sd": self.sd,
            "lit": self.lit,
            "binarised": self.binarised,
            "labels": dict(self.labels),
            "shares": self.shares,
        }

    def causal_trunk(self, spec: TrunkSpec, name: str | None = None, **options: Any) -> Trunk:
        """A causal ``"transformer"`` over pixels; of grey images one over ``"rows"``, or a ``"pixelcnn"``."""
        name = name or ("rows" if self.shape[2] == 1 else "transformer")
        if name == "transformer":
            return super().causal_trunk(spec, name, **options)
        if name not in ("rows", "pixelcnn"):
            raise ConfigError.unknown("causal trunk of image", name, ["rows", "pixelcnn", "transformer"])
        if self.shape[2] != 1:
            raise ConfigError(f"trunk {name} writes grey images; use trunk=transformer for colour")
        from molgen.nn.pixelcnn import PixelCNN
        from molgen.nn.rowwise import RowTransformer

        made = RowTransformer if name == "rows" else PixelCNN
        return made(spec, extent=self.shape[:2], **options)

    @property
    def conditions(self) -> Mapping[str, Condition]:
        return {name: Label(name, classes) for name, classes in self.labels.items()}
