"""The measurements of one cell: training, sampling, scores, likelihood, memory, and their provenance."""

from __future__ import annotations

import hashlib
import math
import os
import platform
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cells import CELLS, RUNS, Cell
from benchmarks.child import Say, memory
from benchmarks.store import write_json
from molgen.core.errors import CheckpointError


@dataclass(frozen=True)
class Job:
    """One row to be measured.

    Arguments:
        cell: what is measured.
        seed: of training, where the cell is trained, and of sampling.
        n: number of samples, and the maximum number of test records for the likelihood.
        weights: the checkpoint; None for a baseline.
        folder: for the training state and the trained weights, if the cell is trained; else None.
        budget: of training, e.g. ``"10m"``.
        device: of training and sampling.
        teacher: the checkpoint to distill from, if the cell has a teacher.
    """

    cell: Cell
    seed: int
    n: int
    weights: Path | None
    folder: Path | None = None
    budget: str | None = None
    device: str = "cpu"
    teacher: Path | None = None

    @property
    def request(self) -> dict[str, Any]:
        """The settings of a row; a row with other settings is out of date."""
        own = self.weights if self.folder is None else None
        return {
            "n": self.n,
            "budget": self.budget,
            "device": self.device,
            "file": None if own is None or not own.is_file() else digest(own),
        }


# ---------------------------------------------------------------------- models


def unfitted(cell: Cell, teacher: Path | None = None, **options: Any) -> Any:
    """A cell's model before training, distilled from a teacher where the cell has one."""
    import molgen
    from molgen.core.registry import get_modality

    family: Any = molgen.list_families()[cell.family]
    options = dict(cell.model) | options
    if cell.teacher:
        return family.distill(molgen.load(teacher or CELLS[cell.teacher].weights), **options)
    return family(type(get_modality(cell.modality))(**cell.options), **options)


def train(job: Job, say: Say) -> None:
    """Trains the model of a job, or resumes its training, and writes weights and costs to its folder."""
    assert job.folder is not None and job.weights is not None
    from molgen.core.errors import MolgenWarning

    if job.weights.is_file():
        return
    say("building")
    model = unfitted(job.cell, job.teacher)
    state = job.folder / "state.safetensors"
    say(f"training {job.budget}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MolgenWarning)
        model.fit(
            job.cell.data,
            max_time=job.budget,
            seed=job.seed,
            root_dir=job.folder,
            ckpt_path=state if state.is_file() else None,
            trainer={"accelerator": "cpu" if job.device == "cpu" else "gpu", "devices": 1},
            **job.cell.fit,
        )
    own = [str(w.message) for w in caught if issubclass(w.category, MolgenWarning)]
    write_json(costs(job), {"memory": peaks(job.device), "warnings": own})
    model.save(job.weights)


def costs(job: Job) -> Path:
    """The file with the costs of the training of a job."""
    assert job.folder is not None
    return job.folder / "costs.json"


# ---------------------------------------------------------------------- measurements


def measure(job: Job, say: Say) -> None:
    """Samples, scores and evaluates the likelihood of the model of a job, and reports each result."""
    cell = job.cell
    say("loading")
    if cell.baseline:
        from benchmarks.baselines import learned

        model = learned(cell)
    else:
        import molgen

        if job.weights is None or not job.weights.is_file():
            raise CheckpointError(f"no weights of {cell.name} ship; train them with --weights train")
        model = molgen.load(job.weights).to(job.device)
    say("sampling", **about(model), **provenance(job.device))
    if hasattr(model, "sample"):
        before = memory()
        samples, drawn = draw(model, job.n, job.seed, cell.sample)
        say("scoring", **drawn, memory={"loaded": round(before), **peaks(job.device)})
        scores = score(model, cell, samples)
    else:
        scores = {}
    if hasattr(model, "predict"):
        scores |= tell(model, cell)
    say("likelihood", scores=scores)
    if model.likelihood != "none":
        say("likelihood", likelihood=log_p(model, cell, min(job.n, cell.records), job.seed))


def draw(model: Any, n: int, seed: int, options: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Samples, and their costs."""
    model.sample(2, seed=seed, **options)  # warm-up, so that imports do not count as sampling
    begun = time.perf_counter()
    samples = model.sample(n, seed=seed, progress=True, **options)
    seconds = time.perf_counter() - begun
    taken = {
        k: getattr(model.options, k, None)
        for k in ("steps", "solver", "restarts")
        if k in model.sampling_options()
    }
    return samples, {
        "n": len(samples),
        "seed": seed,
        "options": {"steps": None, "solver": None, **taken, **options},
        "seconds": round(seconds, 2),
        "samples_per_second": round(len(samples) / max(seconds, 1e-9), 2),
    }


def score(model: Any, cell: Cell, samples: Sequence[Any]) -> dict[str, float | None]:
    """The modality's scores as JSON, NaN as None."""
    from molgen.io.header import finite

    return finite(model.modality.evaluate(samples, reference=reference(cell), **cell.evaluate))


def tell(model: Any, cell: Cell) -> dict[str, float | None]:
    """How well p(y | x) predicts the labels of test records."""
    import numpy as np

    test = model.modality.datasets[cell.data].load("test")
    truth = np.asarray(test.labels["digit"])
    log_p = model.predict(test)
    return {
        "accuracy": float((log_p.argmax(1) == truth).mean()),
        "cross_entropy": float(-log_p[np.arange(len(truth)), truth].mean()),
    }


def log_p(model: Any, cell: Cell, n: int, seed: int) -> dict[str, Any]:
    """log p of n test records in nats, for images in bits as well; log Z where a model bounds it.

    The model gets no labels. Records with a symbol that is not in its training data are left out and counted.
    """
    import numpy as np

    from molgen.core.records import Records, evenly
    from molgen.io.resolve import resolve

    # Test sets may be sorted: of the binarised digits a thousand in a row can be of one kind.
    asked = evenly(resolve(model.modality, cell.data, "test"), n)
    records = [record for record in asked if readable(model, record)]
    # With labels it would be log p(x | y), which is not comparable with log p(x).
    hidden = {c.name: np.full(len(records), c.missing()) for c in getattr(model, "conditions", ())}
    found = log_p_of(model, Records(records, hidden), cell.likelihood, seed)
    return found if len(records) == len(asked) else {**found, "of": len(asked)}


def readable(model: Any, record: Any) -> bool:
    """Whether a model has symbols for all entries of a record."""
    from molgen.core.errors import DataError

    try:
        model.modality.encode(record, model.view.name)
    except DataError:
        return False
    return True


def log_p_of(model: Any, records: Sequence[Any], options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The mean of log p with its standard error; and log Z from both ends, if a model has bounds of it.

    Arguments:
        model: whose log p.
        records: domain objects.
        options: of `log_prob`, and of `log_partition_bounds`.
        seed: of the estimates.
    """
    from molgen.core.annealing import Bounded
    from molgen.io.header import finite

    begun = time.perf_counter()
    values = model.log_prob(records, seed=seed, **options)
    mean, error = float(values.mean()), float(values.std()) / math.sqrt(len(values))
    result: dict[str, Any] = {
        "likelihood": model.likelihood,
        "options": dict(options),
        "n": len(values),
        "nats": mean if math.isfinite(mean) else None,
        "error": error if math.isfinite(error) else None,
        "impossible": float((~values.isfinite()).double().mean()),
    }
    if isinstance(model, Bounded):
        bounds = model.log_partition_bounds(**options)
        result["log_z"] = {end: finite(found._asdict()) for end, found in bounds._asdict().items()}
    result["seconds"] = round(time.perf_counter() - begun, 2)
    if model.modality.extent is not None and math.isfinite(mean):
        result["bits_per_dim"] = -mean / math.log(2) / math.prod(model.modality.extent)
    return result


def about(model: Any) -> dict[str, Any]:
    """The entries of a result that describe its model."""
    return {"parameters": model.num_parameters, "training": model.history, "access": model.likelihood}


def processor(described: Path = Path("/proc/cpuinfo")) -> str:
    """The name of the processor on Linux, elsewhere its kind.

    Example:
        >>> import tempfile
        >>> described = Path(tempfile.mkdtemp()) / "cpuinfo"
        >>> written = described.write_text("processor : 0\\nmodel name : Maker CPU 5 @ 2GHz")
        >>> processor(described)
        'Maker CPU 5 @ 2GHz'
    """
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return told.get("model name", platform.machine())


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Machine, date and versions of a measurement."""
    import torch

    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    gpu = "" if device == "cpu" else f", {torch.cuda.get_device_name(device)}"
    return {
        "machine": f"{processor()}, {threads}{gpu}",
        "date": time.strftime("%Y-%m-%d"),
        "versions": {name: version(name) for name in ("molgen", "torch", "rdkit")},
    }


def peaks(device: str) -> dict[str, int]:
    """The peak memory so far, in MB."""
    found = {"peak": round(memory())}
    if device != "cpu":
        import torch

        found["gpu"] = round(torch.cuda.max_memory_allocated(device) / 2**20)
    return found


@lru_cache(maxsize=2)
def _reference(data: str) -> Any:
    from benchmarks.references import build
    from molgen.io.files import load_arrays
    from molgen.modalities.chemistry.reference import ASSETS, Reference

    if (ASSETS / f"{data}.npz").is_file():
        return data
    path = RUNS / "references" / f"{data}.npz"
    if not path.is_file():
        build("smiles", data, path.parent)
    return Reference.of(load_arrays(path))


def reference(cell: Cell) -> Any:
    """The reference of scores: the name of a data set, or statistics computed once from the user's copy.

    Those of ZINC250k may not ship, and take minutes to compute.
    """
    return _reference(cell.data) if cell.modality in ("smiles", "graph") else cell.data


def digest(path: Path) -> str:
    """The hash of a file of weights."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
