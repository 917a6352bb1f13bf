"""What a user calls without a model at hand: load, evaluate, and the lists of what there is."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from molgen.core.call import called
from molgen.core.errors import ConfigError, MolgenError
from molgen.core.registry import FAMILIES, MODALITIES, Table, get_modality
from molgen.models.loading import find_weights as find_weights
from molgen.models.loading import list_weights as list_weights
from molgen.models.loading import load as load

if TYPE_CHECKING:
    import torch

    from molgen.core.modality import Modality
    from molgen.core.records import Records
    from molgen.io.samples import Samples
    from molgen.models.base import GenerativeModel


@final
@dataclass(frozen=True)
class DataSetInfo:
    """A data set in a list: what reads it, how large it is, where it comes from, whether it is here."""

    name: str
    modality: str
    records: int
    source: str
    licence: str
    present: bool


def list_families() -> Mapping[str, type[GenerativeModel]]:
    """The families by name; each class is imported when it is looked up.

    Example:
        >>> list_families()["diffusion"].__name__
        'DiffusionModel'
    """
    return Table(FAMILIES)


def list_modalities() -> Mapping[str, type[Modality]]:
    """The modalities by name, plugins included; each class is imported when it is looked up.

    Example:
        >>> {"image", "smiles", "graph", "molecule", "protein"} <= set(list_modalities())
        True
    """
    return Table(MODALITIES)


def list_datasets(modality: str | None = None) -> list[DataSetInfo]:
    """The data sets of one modality, or of all that can be imported.

    Example:
        >>> [d.present for d in list_datasets("image") if d.name == "digits"]
        [True]
    """
    found = []
    for name in Table(MODALITIES) if modality is None else [modality]:
        try:
            sources = get_modality(name).datasets
        except MolgenError:
            if modality is not None:
                raise
            continue  # a plugin's trouble is told where that plugin is used
        found += [
            DataSetInfo(s.name, name, s.records, s.source, s.licence, s.present) for s in sources.values()
        ]
    return found


def read(path: str | Path, modality: str | Modality) -> Samples:
    """Every record of a file in order, as a list that notebooks draw; what is no valid object is kept.

    Arguments:
        path: a file or folder in one of the modality's formats.
        modality: a registered name, or a `Modality`.

    Errors: `DataError` for a bad file, `ConfigError` for a format that the modality does not read.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.smi"
        >>> _ = path.write_text("CCO\\nCC(\\n")
        >>> read(path, "smiles")
        ['CCO', 'CC(']
    """
    from molgen.io.samples import Samples

    kind = get_modality(modality) if isinstance(modality, str) else modality
    return Samples(_read(kind, Path(path)), kind)


def to_pyg(
    records: Sequence[Any], modality: str | Modality | None = None, dtype: torch.dtype | None = None
) -> list[Any]:
    """Domain objects as graphs of PyG; `from_pyg` gives them back, and every `fit` reads them.

    Molecules have the names of PyG's data sets: `z`, `pos`, `edge_index`, `edge_attr` (single, double,
    triple, aromatic). Backbones have the CA atoms as `pos`, joined along the chain, and all four as
    `backbone`. Other kinds of data have their fields, see `molgen.io.pyg`.

    Arguments:
        records: domain objects.
        modality: a registered name, or a `Modality`; samples of a model know theirs.
        dtype: of reals, e.g. ``torch.float32``, which networks take; by default that of the objects, in which
            nothing is lost (coordinates of molecules have float64).

    Errors: `DataError` naming the record that has no graph, `ConfigError` without a modality.

    Returns: a list of `torch_geometric.data.Data`.

    Example:
        >>> graphs = to_pyg(["CCO"], "smiles")
        >>> graphs[0].z.tolist(), from_pyg(graphs, "smiles")
        ([6, 6, 8], ['CCO'])
    """
    from molgen.io.resolve import numbered

    known = getattr(records, "modality", None) if modality is None else modality
    if known is None:
        raise ConfigError("modality: which kind of data are these? Give its name, or samples of a model")
    kind = get_modality(known) if isinstance(known, str) else known
    graphs = numbered(kind.to_pyg, records)
    if dtype is None:
        return graphs
    return [graph.apply(lambda x: x.to(dtype) if x.is_floating_point() else x) for graph in graphs]


def from_pyg(graphs: Iterable[Any], modality: str | Modality) -> Samples:
    """Domain objects from graphs of PyG: those of `to_pyg`, a data set of PyG, or a batch.

    Arguments:
        graphs: of `torch_geometric.data.Data`.
        modality: a registered name, or a `Modality`.

    Errors: `DataError` naming the graph and the tensor that it lacks.
    """
    from molgen.io.resolve import resolve
    from molgen.io.samples import Samples

    kind = get_modality(modality) if isinstance(modality, str) else modality
    return Samples(resolve(kind, graphs), kind)


def _read(kind: Modality, path: Path) -> Records:
    from molgen.io.formats import format_of

    format_of(kind, path, "read")
    return kind.read_samples(path)


def evaluate(
    data: str | Path | Sequence[Any],
    modality: str | Modality,
    reference: str | Path | Sequence[Any] | None = None,
    skip_invalid: bool = False,
    **options: Any,
) -> dict[str, float]:
    """The scores of anybody's file or records; no model needed.

    Arguments:
        data: a path, or domain objects; what is no valid object counts as an invalid sample.
        modality: a registered name, or a `Modality`.
        reference: a data set's name, a path, or domain objects to compare with.
        skip_invalid: leave bad records of a file out of the scores, and tell how many.
        options: the modality's own.

    Errors: `DataError` for a bad file, `ConfigError` for an unknown name or option.

    Example:
        >>> evaluate(["CCO", "CC(", "CCO"], "smiles")["valid"]
        0.6666666666666666
    """
    from molgen.io.resolve import resolve

    kind = get_modality(modality) if isinstance(modality, str) else modality
    if isinstance(data, (str, Path)) and Path(data).exists() and not skip_invalid:
        records = _read(kind, Path(data))
    else:
        records = resolve(kind, data, "test", skip_invalid)
    named = isinstance(reference, str) and reference in kind.datasets
    if reference is not None and not named:
        reference = resolve(kind, reference, "test", skip_invalid)
    return called(f"scoring option of {kind.name}", kind.evaluate, records, reference, **options)


_BESIDE = {"floor/": "train to test", "data/": "data"}


def score_lines(scores: Mapping[str, float]) -> list[str]:
    """Scores as aligned lines; a distance's floor, train to test, and the data's own value stand beside them.

    Example:
        >>> score_lines({"n": 10.0, "fcd": 0.5, "floor/fcd": 0.25, "novelty": float("nan")})
        ['n        10', 'fcd      0.5        (train to test 0.25)', 'novelty  -']
    """
    beside = {key + name for key in _BESIDE for name in scores}
    shown = [name for name in scores if name not in beside]
    width = max(map(len, shown), default=0)
    out = []
    for name in shown:
        values = {title: scores.get(key + name, math.nan) for key, title in _BESIDE.items()}
        notes = ", ".join(f"{title} {v:.4g}" for title, v in values.items() if math.isfinite(v))
        out.append(f"{name:<{width}}  {_number(scores[name]):<10} {f'({notes})' if notes else ''}".rstrip())
    return out


def save_json(path: str | Path, scores: Mapping[str, Any]) -> None:
    """Writes scores, or scores by name, as JSON; what could not be measured is null."""
    from molgen.io.files import atomic

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(inner) for name, inner in value.items()}
        return float(value) if math.isfinite(value) else None

    with atomic(path) as temporary:
        temporary.write_text(json.dumps(plain(scores), indent=1) + "\n", encoding="utf-8")


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"  # there was nothing to measure it on
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"
