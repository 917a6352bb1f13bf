"""The consistency family: the boundary, points of one analytic path, the schedule, distillation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from molgen import ConsistencyModel, DiffusionModel, FlowModel, GANModel
from molgen.core.batch import Batch
from molgen.core.capabilities import Consistency, Denoising, Embedding, PathLikelihood
from molgen.core.errors import ConfigError, UnsupportedError
from molgen.core.fields import Angles, Categorical, Continuous, Field, GaussianField, Positions
from molgen.core.rng import BatchRandom, generator, stratified
from molgen.core.step import TrainingStep
from molgen.core.wrappers import Denoiser
from molgen.modalities.image import ImageModality
from molgen.nn.pair import PairTransformer

SMALL = {"width": 24, "depth": 1, "heads": 2}
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]).bool()
FIELDS: dict[str, Field] = {
    "real": Continuous(2),
    "place": Positions(),
    "turn": Angles(1),
    "kind": Categorical(3),
    "bond": Categorical(3, pairs=True),
}


def tiny_images(n: int = 16) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.where(rng.random((4, 4, 1)) < 0.3, 255, 0).astype(np.uint8) for _ in range(n)]


def test_the_boundary_condition_is_exact() -> None:
    """At time 0 every field's prediction is its input, whatever the network says."""
    fields = {k: Embedding.of(f).continuous() for k, f in FIELDS.items()}
    torch.manual_seed(0)
    network = Denoiser(fields, lambda spec: PairTransformer(spec, width=16, pair_width=8, depth=1, heads=2))
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = {}
    for k, f in FIELDS.items():
        shape = (2, 4, 4, 3) if f.axes == 2 else (2, 4, fields[k].channels)
        hard = Embedding.of(f).round(torch.randn(shape, generator=generator(1)), MASK)
        x[k] = Embedding.of(f).embed(hard, MASK)
    params = network(x, torch.zeros(2), MASK)
    for k, f in fields.items():
        assert torch.allclose(f.project(f.x0_mean(params[k]), MASK), x[k], atol=1e-5), k


def test_points_of_one_path_of_a_gaussian_map_to_one_end() -> None:
    """For N(0, s^2) data the flow's map is x s / sqrt(s^2 + sigma^2): it is a fixed point of the loss."""
    field = Continuous(1, mean=0.0, sd=0.8)

    def end(x: Tensor, t: Tensor) -> Tensor:
        sigma = field.schedule.sigma(t).reshape(-1, 1, 1)
        return x * 0.8 / (0.64 + sigma**2).sqrt()

    n, mask = 64, torch.ones(64, 1, dtype=torch.bool)
    t = torch.full((n,), 0.9)
    x = field.prior(mask, BatchRandom(generator(0)))
    # Follow the probability-flow ODE with many Euler steps of the exact denoiser.
    times = torch.linspace(1, 0, 2001)
    path = [x]
    for a, b in zip(times[:-1], times[1:], strict=True):
        ta, tb = torch.full((n,), float(a)), torch.full((n,), float(b))
        sigma = field.schedule.sigma(ta).reshape(-1, 1, 1)
        mean = path[-1] * 0.64 / (0.64 + sigma**2)
        path.append(Denoising.of(field).step(path[-1], mean, ta, tb, mask, BatchRandom(generator(1))))
    ends = [end(path[i], torch.full((n,), float(times[i]))) for i in (0, 500, 1500, 2000)]
    for other in ends[1:]:
        assert torch.allclose(ends[0], other, atol=0.02)
    gap = Consistency.of(field).pseudo_huber(ends[0], ends[1], t, mask)
    assert gap.max() < 0.02


@pytest.mark.parametrize("name", FIELDS)
def test_a_discrepancy_is_zero_for_equals_and_falls_with_distance(name: str) -> None:
    field: GaussianField = Embedding.of(FIELDS[name]).continuous()
    shape = (
        (2, 4, 4, Denoising.of(field).estimates) if field.axes == 2 else (2, 4, Denoising.of(field).estimates)
    )
    a = torch.randn(shape, generator=generator(0))
    b = torch.randn(shape, generator=generator(1))
    t = torch.full((2,), 0.5)
    assert Consistency.of(field).pseudo_huber(a, a, t, MASK).abs().max() < 1e-6
    near = Consistency.of(field).pseudo_huber(a, a + 0.1 * (b - a), t, MASK)
    assert (Consistency.of(field).pseudo_huber(a, b, t, MASK) > near).all()
    assert (near > 0).all()


def test_the_two_times_approach_each_other() -> None:
    model = ConsistencyModel("smiles", stages=3, pretraining=0.4)
    deltas = []
    for progress in (0.0, 0.39, 0.41, 0.65, 0.85, 1.0):
        deltas.append(model._delta(progress))
    assert deltas == [1, 1, 0.5, 0.25, 0.125, 0.125]


def test_the_first_stage_is_denoising() -> None:
    """At delta = 1 the target is the clean value itself, so its loss is that of the prediction's error."""
    model = ConsistencyModel(
        ImageModality((4, 4, 1)), trunk_options={"width": 8, "groups": 4}, label_dropout=0
    )
    model.fit(tiny_images(), max_steps=2, batch_size=8, seed=0)
    batch = model.encode(tiny_images(8))
    got = model.losses(model.trained, batch, BatchRandom(generator(3)), TrainingStep(0.0))["image"]
    rng = BatchRandom(generator(3))
    t = stratified(batch.mask, rng).clamp_min(1e-3)
    field = Embedding.of(model.view.fields["image"]).continuous()
    x0 = batch.values["image"]
    x = field.add_noise(x0, field.standard_noise(batch.mask, rng), t, batch.mask)
    with torch.no_grad():
        ahead = model.trained({"image": x}, t, batch.mask)["image"]
    expected = Consistency.of(field).pseudo_huber(ahead, x0, t, batch.mask).mean()
    assert got.item() == pytest.approx(expected.item(), rel=1e-3)


def test_distilling_takes_the_teachers_weights() -> None:
    options = {"width": 8, "groups": 4}
    teacher = DiffusionModel(ImageModality((4, 4, 1)), trunk_options=options)
    teacher.fit(tiny_images(), max_steps=3, batch_size=8, seed=0)
    student = ConsistencyModel.distill(teacher, stages=2)
    for name, value in teacher.trained.state_dict().items():
        assert torch.equal(student.trained.state_dict()[name], value)
    assert student.options.pretraining == 0


def test_distilling_a_flow_takes_all_of_its_weights_and_answers() -> None:
    """A flow's network is told the noise and not the path, so the student gives what it gives."""
    teacher = FlowModel("smiles", kind="continuous", trunk_options=SMALL)
    teacher.fit(["CC", "CO", "CCO"] * 4, max_steps=3, batch_size=4, seed=0)
    student = ConsistencyModel.distill(teacher)
    assert student.options.pretraining == 0
    batch = teacher.encode(["CCO", "CC"])
    ours, theirs = student._fields, teacher.fields
    x = teacher.relaxed(batch)
    for level in (0.3, 1.0, 5.0):
        there, here = (
            {k: path.time(level) for k, path in PathLikelihood.each(fields).items()}
            for fields in (theirs, ours)
        )
        for k in x:
            said = [
                model.trained(x, torch.full((2,), time[k]), batch.mask, {})[k]
                for model, time in ((teacher, there), (student, here))
            ]
            assert torch.allclose(*said, atol=1e-4)


def test_both_ends_of_a_step_are_shown_one_estimate() -> None:
    model = ConsistencyModel("smiles", trunk_options=SMALL, self_condition=True)
    calls: list[tuple[Tensor, object]] = []
    said: list[object] = []

    def spy(module: nn.Module, given: tuple[Any, ...], out: object) -> None:
        calls.append((given[1], given[4] if len(given) > 4 else None))
        said.append(out)

    model.fit(["CC", "CO"] * 4, max_steps=1, batch_size=4, seed=0)
    network, batch = model.trained, model.encode(["CC", "CO", "CCO"])
    network.register_forward_hook(spy)
    for seed in range(20):
        calls.clear(), said.clear()
        model.losses(network, batch, BatchRandom(generator(seed)))
        (t, ahead), (r, behind) = calls[-2:]
        assert (r < t).all()
        assert ahead is behind
        assert ahead is (said[0] if len(calls) == 3 else None)
        if len(calls) == 3:
            assert (calls[0][0] == t).all()


def test_only_what_denoises_is_distilled() -> None:
    coupling = FlowModel("smiles", kind="coupling", trunk_options=SMALL)
    for model in (GANModel("smiles", trunk_options=SMALL), coupling):
        with pytest.raises(UnsupportedError, match=r"cannot be distilled; give a diffusion model, or a flow"):
            ConsistencyModel.distill(model)


def test_distilling_takes_what_it_can_of_masked_tokens() -> None:
    """The teacher reads one class more, so that layers which read tokens begin anew, and no others."""
    teacher = DiffusionModel("smiles", trunk_options=SMALL).fit(["CC", "CO"] * 4, max_steps=1, seed=0)
    student = ConsistencyModel.distill(teacher)
    assert student.options.pretraining > 0
    taught, own, fresh = teacher.tensors(), student.tensors(), student._built(0).state_dict()
    anew = {name for name in own if taught.get(name) is None or taught[name].shape != own[name].shape}
    assert 0 < len(anew) < len(own) / 4
    for name, value in own.items():
        assert torch.equal(value, fresh[name] if name in anew else taught[name]), name


def test_it_learns_two_points_in_two_steps() -> None:
    """Data are two images, so two steps from noise give one of them in most cases."""
    dark, light = np.zeros((4, 4, 1), np.uint8), np.full((4, 4, 1), 255, np.uint8)
    trunk = {"width": 16, "groups": 4, "multipliers": (1,), "attention": (False,)}
    model = ConsistencyModel(ImageModality((4, 4, 1)), trunk_options=trunk, stages=3)
    model.fit([dark, light] * 16, max_steps=200, batch_size=16, lr=3e-3, seed=0)
    means = np.array([image.mean() for image in model.sample(60, seed=0, steps=2)])
    assert ((means < 64) | (means > 191)).mean() > 0.75
    assert 0.2 < (means > 128).mean() < 0.8
    noisy = [
        np.clip(image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
        for image in (dark, light)
    ]
    clean = model.denoise(noisy, level=0.4)
    assert clean[0].mean() < 20
    assert clean[1].mean() > 235


@pytest.mark.parametrize("name", FIELDS)
def test_whitening_inverts_noising(name: str) -> None:
    field = Embedding.of(FIELDS[name]).continuous()
    assert isinstance(field, GaussianField)
    rng, t = BatchRandom(generator(0)), torch.tensor([0.1, 0.2])
    x0 = field.project(0.1 * field.standard_noise(MASK, rng), MASK)
    white = field.standard_noise(MASK, rng)
    assert torch.allclose(
        field.predict_eps(field.add_noise(x0, white, t, MASK), x0, t, MASK), white, atol=1e-3
    )


def test_a_step_back_keeps_as_much_noise_as_gamma_says() -> None:
    """Where all noise maps to one image, kept noise stays on a straight path, and new noise is T's spread."""
    seen: list[Tensor] = []

    class Point(torch.nn.Module):
        def forward(self, x: dict[str, Tensor], t: Tensor, *_: object) -> dict[str, Tensor]:
            seen.append(x[name] / field.schedule.sigma(t).reshape(-1, 1, 1, 1))
            return {name: torch.zeros_like(x[name])}

    model = ConsistencyModel(ImageModality((8, 8, 1)), temperature=0.5, steps=3)
    ((name, field),) = model._fields.items()
    model.network = Point()
    mask = torch.ones(64, 8, 8, dtype=torch.bool)
    model.generate(mask, {}, BatchRandom(generator(0)), gamma=0.0)
    assert torch.allclose(seen[0], seen[1], atol=1e-4)
    assert torch.allclose(seen[0], seen[2], atol=1e-4)
    seen.clear()
    model.generate(mask, {}, BatchRandom(generator(0)), gamma=0.6)
    for one, other in ((0, 1), (1, 2)):
        pair = torch.stack([seen[one].flatten(), seen[other].flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1]) - 0.8) < 0.03
        assert abs(float(seen[other].std()) - 0.5) < 0.03


def test_without_spread_every_sample_is_the_same() -> None:
    trunk = {"width": 16, "groups": 4, "multipliers": (1,), "attention": (False,)}
    model = ConsistencyModel(ImageModality((4, 4, 1)), trunk_options=trunk, gamma=0.7, label_dropout=0.0)
    model.fit(tiny_images(), max_steps=2, batch_size=8, seed=0)
    first, *others = model.sample(4, seed=0, temperature=0.0)
    assert all(np.array_equal(first, other) for other in others)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="temperature"):
        ConsistencyModel("smiles", temperature=-1)
    with pytest.raises(ConfigError, match="gamma"):
        ConsistencyModel("smiles", gamma=1.5)
    with pytest.raises(ConfigError, match="steps"):
        ConsistencyModel("smiles", steps=0)
    with pytest.raises(ConfigError, match="pretraining"):
        ConsistencyModel("smiles", pretraining=1.0)
    model = ConsistencyModel("smiles", trunk_options=SMALL).fit(["CC", "CO"] * 4, max_steps=1, seed=0)
    with pytest.raises(ConfigError, match="level"):
        model.denoise(["CC"], level=0)
    assert isinstance(model.encode(["CC"]), Batch)
