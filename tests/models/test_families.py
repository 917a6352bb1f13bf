"""Every family: learning, labels, and refusals that name who can; see test_conformance for all else."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import molgen
from molgen import ConfigError, UnsupportedError
from molgen.core.rng import BatchRandom, generator
from molgen.core.step import TrainingStep
from tests.models.cells import CELLS, FAMILIES, fitted, records, tiny

# GeneratorAndCritic have not spread out after a few steps.
pytestmark = pytest.mark.filterwarnings("ignore:mode collapse")


def test_what_a_family_has_not_names_those_that_have_it() -> None:
    with pytest.raises(UnsupportedError, match=r"gan has no likelihood.*autoregressive.*vae"):
        fitted("smiles", "gan").log_prob(records("smiles")[:2])
    with pytest.raises(UnsupportedError, match=r"vae has no steps to sample with.*consistency.*diffusion"):
        fitted("smiles", "vae").sample(2, steps=10)


def test_half_precision_only_rounds() -> None:
    model = fitted("image", "gan")  # one pass of its network, so that rounding does not grow
    exact, rounded = (
        torch.stack([torch.from_numpy(x).float() for x in model.sample(8, precision=precision)])
        for precision in ("fp32", "bf16")
    )
    assert 0 < (exact - rounded).abs().max() < 0.03 * 255
    with pytest.raises(ConfigError, match=r"bf17.*bf16"):
        model.sample(1, precision="bf17")


# A decoder that knows four records by heart, or that is told the label, rightly ignores its code.
collapsing = pytest.mark.filterwarnings("ignore:posterior collapse")


@collapsing
@pytest.mark.parametrize(("family", "name"), [(f, m) for f, m in CELLS if f != "gan"])
def test_the_loss_falls_on_a_tiny_set(family: str, name: str) -> None:
    """The loss at fixed noise, before and after a short fit to four records.

    GeneratorAndCritic have no loss that falls: what one gains the other loses.
    """
    # What two families are trained by changes on the way; here they keep to their first stage nearly always.
    quick = {"consistency": {"pretraining": 0.9}, "energy": {"warmup": 1.0}, "flow-coupling": {"layers": 2}}
    model = tiny(name, family, **quick.get(family, {}))
    few = records(name)[-4:]  # the first strings are too short to tell apart

    def loss(network: torch.nn.Module) -> float:
        batch = model.encode(few)
        batch = batch[torch.arange(len(batch)).repeat(16)].trimmed()
        with torch.no_grad():
            terms = model.losses(network, batch, BatchRandom(generator(5)), TrainingStep(0.0))
        return float(torch.stack(list(terms.values())).sum())

    # All four are for training: none is held out.
    model.fit(few, few, max_steps=1, batch_size=4, lr=1e-12)
    before = loss(model.trained)
    # The consistency loss is a root mean square, so the same fit moves it half as much.
    goal = before - (0.08 if family == "consistency" else 0.2) * abs(before)
    # Couplings start from the marginal distribution of the data, so what is left takes longest to learn.
    rounds = [100, 200] if family == "flow-coupling" else [50, 50, 50]
    for steps in rounds:
        model.fit(few, few, max_steps=steps, batch_size=4, lr=3e-3)
        after = loss(model.trained)
        assert math.isfinite(after)
        if after < goal:
            return
    pytest.fail(f"the loss went from {before:.4g} to {after:.4g} in {sum(rounds)} steps, not to {goal:.4g}")


@collapsing
@pytest.mark.parametrize("family", FAMILIES)
def test_conditional_samples_follow_their_condition(family: str) -> None:
    """Dark images have label 0, light ones label 1; the label alone decides the sample."""
    import numpy as np

    from molgen.core.records import Records
    from molgen.modalities.image import ImageModality

    dark, light = np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 255, np.uint8)
    data = Records([dark, light] * 16, labels={"kind": np.array([0, 1] * 16)})
    modality = ImageModality((4, 4, 1), labels={"kind": 2})
    trunk: dict[str, Any] = {} if family == "flow-nice" else {"width": 16}
    if family not in ("autoregressive", "flow-coupling", "flow-nice"):
        trunk |= {"groups": 4, "multipliers": (1,), "attention": (False,)}
    family, _, kind = family.partition("-")
    options: dict[str, Any] = {"kind": kind} if kind else {}
    model = molgen.list_families()[family](modality, trunk_options=trunk, **options)
    model.fit(data, condition=["kind"], max_steps=100, batch_size=16, lr=3e-3, seed=0)
    for kind, low, high in ((0, 0, 80), (1, 175, 255)):
        means = [image.mean() for image in model.sample(20, seed=0, condition={"kind": kind})]
        assert sum(low <= mean <= high for mean in means) >= 15
