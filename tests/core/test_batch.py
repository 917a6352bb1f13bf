"""Padding and its inverse."""

from __future__ import annotations

import numpy as np
import torch

from molgen.core.batch import Sample, collate, split


def samples(seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    out = []
    for n in (3, 1, 5, 5):
        pair = rng.integers(0, 4, (n, n)).astype(np.uint8)
        out.append(
            {"x": rng.normal(size=(n, 3)).astype(np.float32), "k": np.arange(n, dtype=np.uint8), "p": pair}
        )
    return out


def test_split_inverts_collate() -> None:
    made = samples()
    back = split(collate(made, frozenset({"p"})))
    for a, b in zip(made, back, strict=True):
        assert a.keys() == b.keys()
        assert all((a[k] == b[k]).all() and a[k].dtype == b[k].dtype for k in a)


def test_trimming_loses_padding_only() -> None:
    batch = collate(samples(), frozenset({"p"}))
    assert batch.mask.shape == (4, 5)
    few = batch[torch.tensor([0, 1])].trimmed()
    assert few.mask.shape == (2, 3)
    assert few.values["p"].shape == (2, 3, 3)
    for a, b in zip(split(few), samples()[:2], strict=True):
        assert all((a[k] == b[k]).all() for k in a)


def test_a_channel_count_equal_to_the_length_is_not_taken_for_sites() -> None:
    batch = collate([{"x": np.ones((3, 3), np.float32)}, {"x": np.ones((2, 3), np.float32)}])
    assert batch[1:].trimmed().values["x"].shape == (1, 2, 3)


def test_grids_fill_their_extent() -> None:
    made = [{"x": np.full((2, 3, 1), i, np.float32)} for i in range(2)]
    batch = collate(made, extent=(2, 3), conditions={"c": np.array([1.0, 2.0])})
    assert batch.mask.all()
    assert batch.sizes.tolist() == [6, 6]
    assert batch[1:].conditions["c"].tolist() == [2.0]
    assert all((a["x"] == b["x"]).all() for a, b in zip(split(batch), made, strict=True))
