"""ConsistencyModel: any point of a path from noise to data maps to the path's clean end, in one step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, final

import torch
from torch import Tensor, nn

from molgen.core.batch import Batch
from molgen.core.capabilities import Consistency, Denoising, Embedding
from molgen.core.errors import ConfigError
from molgen.core.fields import GaussianField
from molgen.core.fields.field import per_sample
from molgen.core.rng import RandomSource, stratified
from molgen.core.solvers import State
from molgen.core.step import TRAINED, TrainingStep
from molgen.core.wrappers import Denoiser, self_condition_estimate, with_self_conditioning
from molgen.io.samples import Samples
from molgen.models.base import GenerativeModel
from molgen.models.options import Options, option


@final
@dataclass(frozen=True, kw_only=True)
class ConsistencyOptions(Options):
    """Options of `ConsistencyModel`."""

    stages: int = option(5, "number of times that delta is halved", ge=1)
    pretraining: float = option(0.4, "share of the budget that is spent at delta = 1", ge=0, lt=1)
    anchor: float = option(0.3, "weight of the cross-entropy on classes", ge=0)
    steps: int = option(4, "number of sampling steps", ge=1, le=1000)
    temperature: float = option(
        1.0,
        "factor on the standard deviation of sampling noise; below 1 samples are better and more alike",
        ge=0,
    )
    gamma: float = option(
        1.0,
        "share of new noise at every step back: 1 forgets the noise that a sample was made from, 0 keeps it",
        ge=0,
        le=1,
    )
    label_dropout: float = option(0.1, "share of training samples without their label", ge=0, le=1)
    self_condition: bool = option(
        False, "whether the network reads its previous estimate, in half of training one of the same step"
    )
    width: int = option(128, "channels of the context vector", ge=1)


@final
class ConsistencyModel(GenerativeModel):
    r"""A consistency model over any mixture of fields, classes as noisy one-hot vectors.

    Training compares the clean ends that two points of one path are mapped to,

    .. math:: \frac{1}{\delta} \lambda(t) d(f_\theta(x_t, t), \mathrm{sg} f_\theta(x_r, r)),
              \quad x_t = x_0 + \sigma(t) \varepsilon, \; x_r = x_0 + \sigma(r) \varepsilon,
              \quad r = (1 - \delta) t

    with :math:`f(x, 0) = x` built in. At :math:`\delta = 1` this is the denoising loss; training begins
    there and halves :math:`\delta` stage by stage, so that one run goes from a diffusion model to a
    consistency model. Distances between probabilities alone would let all classes collapse into one; a
    cross-entropy to the data anchors them.

    Arguments:
        modality: a registered name or a `Modality`.
        view, trunk, trunk_options: see `GenerativeModel`.
        {options}

    Errors: `UnsupportedError` if the modality has no view that is denoisable.

    Source: Song et al., Consistency Models (2023); Geng et al., Consistency Models Made Easy (2025); Kim et
    al., Consistency Trajectory Models (2024), for gamma; Chen et al., Analog Bits (2023), for what it is
    shown.

    Example:
        >>> from molgen import ConsistencyModel
        >>> model = ConsistencyModel("smiles", trunk_options={"width": 32, "depth": 1, "heads": 2})
        >>> _ = model.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
        >>> len(model.sample(3, seed=0, steps=2)), len(model.denoise(["CCO"], level=0.2))
        (3, 1)
    """

    family: ClassVar[str] = "consistency"
    needs: ClassVar[Mapping[str, bool]] = {"denoisable": True}
    continuous = (Denoising, Consistency)
    options_type: ClassVar[type[Options]] = ConsistencyOptions
    options: ConsistencyOptions

    @classmethod
    def distill(cls, teacher: GenerativeModel, **options: Any) -> Self:
        """A consistency model that begins with the weights of a trained diffusion model or continuous flow.

        Their networks are told the level of the noise and nothing of the path that led there, so a flow has
        the same one, and so have real fields of a diffusion model. Its classes are masked tokens and noisy
        vectors here: layers that read them begin anew, and with them the denoising stage.

        Arguments:
            teacher: a trained diffusion model, or flow of the kind ``"continuous"``.
            options: of the constructor; `pretraining` is 0 by default where all weights could be taken.

        Errors: `ConfigError` if the teacher has no weights; `UnsupportedError` if it has another network
            (see `GenerativeModel.distillation_config`), or a latent space.

        Example:
            >>> from molgen import ConsistencyModel, FlowModel
            >>> small = {"width": 32, "depth": 1, "heads": 2}
            >>> teacher = FlowModel("smiles", kind="continuous", trunk_options=small)
            >>> _ = teacher.fit(["CCO", "CCN", "CCC", "CO"], max_steps=2, batch_size=4, seed=0)
            >>> len(ConsistencyModel.distill(teacher).sample(3, seed=0))
            3
        """
        same = teacher.distillation_config()
        taught = teacher.tensors()
        student = cls(
            teacher.modality,
            **{
                "view": teacher._view,
                "trunk": teacher.trunk,
                "trunk_options": teacher.trunk_options,
                "pretraining": 0.0,
                **same,
                **options,
            },
        )
        student.conditions = teacher.conditions
        if not student.warm_start(taught) and "pretraining" not in options:
            student.options = replace(student.options, pretraining=0.3)
        return student

    def build(self) -> nn.Module:
        return Denoiser(
            self._fields,
            self.make_trunk,
            self.conditions,
            self_condition=self.options.self_condition,
            width=self.options.width,
        )

    @property
    def _fields(self) -> dict[str, GaussianField]:
        return {name: e.continuous() for name, e in Embedding.each(self.view.fields).items()}

    # ------------------------------------------------------------------ training

    def losses(
        self, network: nn.Module, batch: Batch, rng: RandomSource, step: TrainingStep = TRAINED
    ) -> dict[str, Tensor]:
        fields, mask = self._fields, batch.mask
        labels = self.drop_labels(batch, rng, self.options.label_dropout)
        delta = self._delta(step.progress)
        t = stratified(mask, rng).clamp_min(1e-3)
        r = (1 - delta) * t
        x0 = self.relaxed(batch)
        eps = {k: f.standard_noise(mask, rng) for k, f in fields.items()}
        x, y = (self._perturbed(x0, eps, time, mask) for time in (t, r))
        previous = (
            self_condition_estimate(network, x, t, mask, labels, rng) if self.options.self_condition else None
        )
        ahead = network(x, t, mask, labels, previous)
        with torch.no_grad():
            behind = network(y, r, mask, labels, previous)
        terms = {}
        for name, f in fields.items():
            own = Consistency.of(f)
            gap = own.pseudo_huber(ahead[name], behind[name], t, mask) / delta
            anchor = self.options.anchor * own.cross_entropy_term(ahead[name], x0[name], mask)
            terms[name] = f.weight * (gap + anchor * (t > f.window.start)).mean()
        return terms

    def _delta(self, progress: float) -> float:
        """The relative distance of the two times: 1, then halved at even steps of the budget."""
        start, stages = self.options.pretraining, self.options.stages
        share = (progress - start) / (1 - start)
        stage = 0 if share < 0 else 1 + min(int(share * stages), stages - 1)
        return float(2.0**-stage)

    def _perturbed(self, x0: State, eps: State, t: Tensor, mask: Tensor) -> State:
        return {k: f.add_noise(x0[k], eps[k], t, mask) for k, f in self._fields.items()}

    # ------------------------------------------------------------------ sampling

    def generate(
        self,
        mask: Tensor,
        labels: Mapping[str, Tensor],
        rng: RandomSource,
        *,
        steps: int | None = None,
        temperature: float | None = None,
        gamma: float | None = None,
    ) -> State:
        r"""From noise to data in a few steps: to the clean end, back to less noise, and again.

        The noise of a step back from :math:`x_s` is
        :math:`\sqrt{1 - \gamma^2} (x_s - x_0) / \sigma(s) + \gamma T \varepsilon`.

        Arguments:
            mask: real sites, `(B, *extent)`.
            labels: conditions, `(B,)` each.
            rng: the source of randomness.
            steps: evaluations of the network, 1 or more.
            temperature, gamma: see the class.

        Source: Song et al. (2023), algorithm 1; Kim et al. (2024), algorithm 3.
        """
        o = self.resolved(steps=steps, temperature=temperature, gamma=gamma)
        steps, heat, fresh = o.steps, o.temperature, o.gamma
        fields, b = self._fields, len(mask)
        denoise = with_self_conditioning(self.trained, mask, labels, self.options.self_condition)
        x = {k: f.tempered_prior(mask, rng, heat) for k, f in fields.items()}
        clean, s = x, torch.ones(b, device=mask.device)
        for i in range(steps):
            t = torch.full((b,), 1 - i / steps, device=mask.device)
            if i > 0:
                eps = {
                    k: math.sqrt(1 - fresh**2) * f.predict_eps(x[k], clean[k], s, mask)
                    + fresh * heat * f.standard_noise(mask, rng)
                    for k, f in fields.items()
                }
                again = self._perturbed(clean, eps, t, mask)
                # What is still pure noise at this time has not been touched by the path yet.
                x = {k: torch.where(_pure(f, t, x[k]), x[k], again[k]) for k, f in fields.items()}
                s = t
            params = denoise(x, t)
            # Classes go on as probabilities: to draw each by itself would break what they say together.
            clean = {k: f.project(f.x0_mean(params[k]), mask) for k, f in fields.items()}
        return {k: e.round(clean[k], mask) for k, e in Embedding.each(self.view.fields).items()}

    @torch.no_grad()
    def denoise(self, records: Sequence[Any], level: float, batch_size: int | None = None) -> Samples:
        """Noisy objects to clean ones in one step of the network.

        Arguments:
            records: domain objects that hold noise.
            level: the time at which the noising process has as much noise, in (0, 1]; 1 is noise alone.
            batch_size: records at a time.

        Returns: a list of as many domain objects.
        """
        if not 0 < level <= 1:
            raise ConfigError(f"level is {level}, expected above 0 and at most 1")
        network, fields, out = self.trained.eval(), self._fields, Samples([], self.modality)
        size = batch_size or self.fit_options.batch_size
        for start in range(0, len(records), size):
            batch = self.encode(records[start : start + size])
            t = torch.full((len(batch),), float(level))
            x = self.relaxed(batch)
            labels = self.labels(batch)
            params = network(x, t, batch.mask, labels)
            values = {
                k: Embedding.of(self.view.fields[k]).round(
                    f.project(f.x0_mean(params[k]), batch.mask), batch.mask
                )
                for k, f in fields.items()
            }
            out += self.decode(batch.replace(values=values, conditions={}))
        return out


def _pure(field: GaussianField, t: Tensor, x: Tensor) -> Tensor:
    """Whether the field has not begun to resolve at these times, broadcastable over values."""
    return per_sample(t >= field.window.end, x)
