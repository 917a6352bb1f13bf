"""The promises of every family alone: each check raises a `Complaint`."""

from __future__ import annotations

import dataclasses
import inspect
import tempfile
import warnings
from pathlib import Path
from typing import Any, final

import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from molgen.core.errors import ConfigError, MolgenWarning
from molgen.core.modality import View
from molgen.core.rng import BatchRandom, generator
from molgen.models.base import GenerativeModel
from molgen.models.options import Options
from molgen.testing.report import demand, refused
from molgen.testing.subject import Cell


def check_declaration(family: type[GenerativeModel]) -> None:
    """Name, needs and likelihood are valid, and kinds have names and options."""
    demand(
        isinstance(getattr(family, "family", None), str) and family.family.isidentifier(),
        f"family {getattr(family, 'family', None)!r} is no name",
        'declare family: ClassVar[str] = "its_name"',
    )
    demand(
        all(hasattr(View, name) or name in View.__dataclass_fields__ for name in family.needs),
        f"needs {sorted(family.needs)}, of which a view knows not all",
        "ask for properties of a View: bijective, invariant, denoisable, ordered, discrete",
    )
    for made in family.kinds.values() or [family]:
        demand(
            issubclass(made.options_type, Options) and dataclasses.is_dataclass(made.options_type),
            f"{made.__name__} declares no options",
            "declare options_type: ClassVar[type[Options]], a frozen dataclass of fields made by `option`",
        )
        unknown = sorted(set(made.tiny_config()) - set(inspect.signature(made).parameters))
        demand(not unknown, f"tiny_config has {unknown}, which are no options", "take names of the options")


def check_losses(cell: Cell) -> None:
    """Losses are named finite numbers with a gradient, equal for equal noise."""
    model = cell.trained
    batch = model.encode(cell.subject.records[:6]).trimmed()
    terms, again = (model.losses(model.trained, batch, BatchRandom(generator(3))) for _ in range(2))
    demand(
        bool(terms) and all(t.dim() == 0 and bool(torch.isfinite(t)) for t in terms.values()),
        f"losses gives { ({k: tuple(t.shape) for k, t in terms.items()}) }",
        "return a mean over the batch for each term, finite at any noise",
    )
    total = torch.stack(list(terms.values())).sum()
    demand(
        total.requires_grad, "losses have no gradient", "use the network that is handed in, without no_grad"
    )


def check_options(cell: Cell) -> None:
    """Every option of the constructor is recorded, and unknown ones are refused."""
    model = cell.tiny()
    saved = type(model.options).from_json(model.options.to_json())
    demand(saved == model.options, f"{model.options} is saved as {saved}", "use types that JSON holds")
    demand(
        isinstance(model.likelihood, str), "likelihood is no text", "say exact, lower bound, estimate or none"
    )
    with refused("a view that is not there", "leave the view to super().__init__", ConfigError):
        cell.tiny(view="no such view")


class _Interrupted(Exception):
    """Interrupts a run."""


@final
class _Interrupt(Callback):
    """Saves the training state after three steps and interrupts the run a step later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)
        if trainer.global_step == 4:
            raise _Interrupted


def check_resume(cell: Cell) -> None:
    """A resumed run ends with the weights of an uninterrupted one, bit for bit."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore", MolgenWarning)
        folder = Path(name)

        def run(part: str, state: Path | None = None, **options: Any) -> dict[str, Tensor]:
            model = cell.tiny()
            model.fit(
                cell.subject.records,
                max_steps=6,
                batch_size=8,
                seed=1,
                root_dir=folder / part,
                ckpt_path=state,
                **options,
            )
            return {k: v.clone() for k, v in model.tensors().items()}

        whole = run("whole")
        state = folder / "cut" / "state.safetensors"
        try:
            run("cut", trainer={"callbacks": [_Interrupt(state)]})
        except _Interrupted:
            pass
        resumed = run("cut", state)
    changed = [k for k, v in whole.items() if not torch.equal(v, resumed[k])]
    demand(
        not changed,
        f"a resumed run has other weights ({', '.join(changed[:3])})",
        "keep all that changes during training in buffers of the network, and take noise from `noise`",
    )


CHECKS = {"losses": check_losses, "options": check_options, "resume": check_resume}
"""The checks of a family on a modality that need only be made once, by what is promised."""
