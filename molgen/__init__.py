"""Deep generative models of molecules, proteins and images; names are imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from molgen.api import evaluate as evaluate
    from molgen.api import from_pyg as from_pyg
    from molgen.api import list_datasets as list_datasets
    from molgen.api import list_families as list_families
    from molgen.api import list_modalities as list_modalities
    from molgen.api import load as load
    from molgen.api import read as read
    from molgen.api import to_pyg as to_pyg
    from molgen.core.errors import CheckpointError as CheckpointError
    from molgen.core.errors import ConfigError as ConfigError
    from molgen.core.errors import DataError as DataError
    from molgen.core.errors import MolgenError as MolgenError
    from molgen.core.errors import MolgenWarning as MolgenWarning
    from molgen.core.errors import UnsupportedError as UnsupportedError
    from molgen.models.autoregressive import AutoregressiveModel as AutoregressiveModel
    from molgen.models.consistency import ConsistencyModel as ConsistencyModel
    from molgen.models.diffusion import DiffusionModel as DiffusionModel
    from molgen.models.energy import EnergyModel as EnergyModel
    from molgen.models.flow import FlowModel as FlowModel
    from molgen.models.gan import GANModel as GANModel
    from molgen.models.vae import VAEModel as VAEModel
    from molgen.train import DataModule as DataModule

from molgen.version import __version__ as __version__

_NAMES = {
    "molgen.models.autoregressive": ("AutoregressiveModel",),
    "molgen.models.consistency": ("ConsistencyModel",),
    "molgen.models.diffusion": ("DiffusionModel",),
    "molgen.models.energy": ("EnergyModel",),
    "molgen.models.flow": ("FlowModel",),
    "molgen.models.gan": ("GANModel",),
    "molgen.models.vae": ("VAEModel",),
    "molgen.api": (
        "evaluate",
        "list_datasets",
        "list_families",
        "list_modalities",
        "load",
        "read",
        "from_pyg",
        "to_pyg",
    ),
    "molgen.train": ("DataModule",),
    "molgen.core.errors": (
        "CheckpointError",
        "ConfigError",
        "DataError",
        "MolgenError",
        "MolgenWarning",
        "UnsupportedError",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use, which keeps `import molgen` quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
