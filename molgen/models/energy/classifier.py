"""A classifier that starts with the layers of a deep Boltzmann machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from molgen.core.errors import DataError
from molgen.core.rng import Key, generator
from molgen.nn.boltzmann import DeepBoltzmann


@final
class Classifier(nn.Module):
    """A feed-forward network with the layers of a Boltzmann machine, and a linear one on top.

    Arguments:
        machine: the machine's network, which stays as it is.
        encode: records to its visible units.
        classes: number of classes.
        pretrained: take the machine's weights, doubled where a unit lacks the layer above.

    Source: Salakhutdinov and Hinton, Deep Boltzmann Machines (2009).
    """

    def __init__(
        self,
        machine: DeepBoltzmann,
        encode: Callable[[Sequence[Any]], Tensor],
        classes: int,
        pretrained: bool,
    ) -> None:
        super().__init__()
        self.encode = encode
        layers: list[nn.Module] = []
        for i, weight in enumerate(machine.weights):
            linear = nn.Linear(*weight.shape)
            if pretrained:
                own = machine.scales(i)[0] * weight.detach().t()
                linear.weight.data.copy_(own)
                linear.bias.data.copy_(machine.biases[i + 1].detach() - own @ machine.means(i))
            else:
                # Glorot and Bengio (2010): what keeps signals through sigmoids of slope 1/4.
                nn.init.xavier_uniform_(linear.weight, gain=4.0)
                nn.init.zeros_(linear.bias)
            layers += [linear, nn.Sigmoid()]
        self.layers = nn.Sequential(*layers, nn.Linear(machine.sizes[-1], classes))

    @classmethod
    def fit(
        cls,
        machine: DeepBoltzmann,
        encode: Callable[[Sequence[Any]], Tensor],
        records: Sequence[Any],
        labels: Sequence[int],
        *,
        pretrained: bool,
        steps: int,
        lr: float,
        batch_size: int,
        seed: int,
    ) -> Self:
        """A classifier trained on labelled records; see `BoltzmannMachine.classifier`."""
        target = torch.as_tensor(np.asarray(labels)).long()
        if len(records) == 0 or target.shape != (len(records),) or int(target.min()) < 0:
            raise DataError(
                f"labels of shape {tuple(target.shape)} for {len(records)} records",
                fix="give a class from 0 up for each of at least one record",
            )
        inputs = encode(records)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(seed, Key.CLASSIFIER_WEIGHTS).initial_seed() % 2**31)
            made = cls(machine, encode, int(target.max()) + 1, pretrained).to(inputs.device)
        optimizer = torch.optim.Adam(made.layers.parameters(), lr)
        source = generator(seed, Key.CLASSIFIER_ORDER)
        for _ in range(steps):
            index = torch.randint(len(target), (min(batch_size, len(target)),), generator=source)
            loss = F.cross_entropy(made.layers(inputs[index]), target[index].to(inputs.device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return made.eval()

    @torch.no_grad()
    def predict(self, records: Sequence[Any]) -> Tensor:
        """The most probable class of each record, `(n,)`."""
        if not len(records):
            return torch.zeros(0, dtype=torch.long)
        out: Tensor = self.layers(self.encode(records)).argmax(1)
        return out
