"""Makes the reference statistics that the package ships, from the data sets' train and test records."""

from __future__ import annotations

import argparse
import importlib
import time
from pathlib import Path

from molgen.core.errors import ConfigError
from molgen.core.modality import Modality
from molgen.io.files import save_arrays

SHIPPED = {
    "image": ("mnist", "binarized_mnist", "fashion_mnist"),
    "smiles": ("qm9", "gdb6"),
    "molecule": ("qm9",),
    "protein": ("pdb_chains",),
}
"""Per modality the data sets whose statistics ship; each modality's `metrics.build_reference` makes them.

Graphs are scored with the statistics of strings. Those of ZINC250k hold its test molecules, whose licence
forbids that they are passed on in bulk: they are made from a user's own copy.
"""


def build(modality: str, dataset: str, folder: Path | None = None) -> Path:
    """Writes `<modality>/assets/<dataset>.npz` and returns its path.

    Arguments:
        modality: a key of `SHIPPED`.
        dataset: one of its data sets; read from the data folder, or downloaded.
        folder: where to write; the package's assets by default.
    """
    package = importlib.import_module(f"molgen.modalities.{modality}")
    kinds = (v for v in vars(package).values() if isinstance(v, type) and issubclass(v, Modality))
    source = next(kinds)().datasets[dataset]
    metrics = importlib.import_module(f"molgen.modalities.{modality}.metrics")
    if folder is None:
        folder = Path(str(package.__file__)).parent / "assets"
    path = folder / f"{dataset}.npz"
    save_arrays(path, metrics.build_reference(source.load("train"), source.load("test")))
    return path


def main(argv: list[str]) -> None:
    """Makes the files of all modalities, of one, or one file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks references", description=__doc__)
    parser.add_argument("modality", nargs="?", help="only this modality")
    parser.add_argument("dataset", nargs="?", help="only this data set")
    parser.add_argument("--out", type=Path, help="folder to write to, instead of the package's assets")
    options = parser.parse_args(argv)
    if options.modality is not None and options.modality not in SHIPPED:
        raise ConfigError.unknown("modality", options.modality, SHIPPED)
    for modality, datasets in SHIPPED.items():
        if options.modality not in (None, modality):
            continue
        if options.dataset is not None and options.dataset not in datasets:
            raise ConfigError.unknown("data set", options.dataset, datasets)
        for dataset in datasets:
            if options.dataset in (None, dataset):
                start = time.monotonic()
                path = build(modality, dataset, options.out)
                seconds = time.monotonic() - start
                print(f"{path}: {path.stat().st_size / 1e3:.0f} kB in {seconds:.0f} s", flush=True)
