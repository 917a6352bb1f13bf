"""Graphs of PyG out of whatever the fields hold, and back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from molgen.core.errors import DataError
from molgen.core.modality import Modality


def to_graph(modality: Modality, record: Any) -> Any:
    r"""A record's fields in the modality's first view as a `torch_geometric.data.Data`.

    A node is a site. A field of sites is a tensor of its name, `(n, C)` reals or `(n,)` classes, sites of a
    grid in rows; points in space are `pos`, if they are the only ones. Edges are the pairs of sites on which
    a field of pairs is not zero, in both directions, and each such field is a tensor of its name, `(e, ...)`.

    Example:
        >>> from molgen.testing.toys import Clouds
        >>> cloud = np.array([[-1, 0, 0], [-0.5, 0, 0], [1.5, 0, 0]], np.float32)
        >>> graph = to_graph(Clouds(), cloud)
        >>> graph.edge_index.tolist(), graph.edges.tolist(), graph.pos.shape
        ([[0, 1], [1, 0]], [1, 1], torch.Size([3, 3]))
        >>> bool((from_graph(Clouds(), graph) == cloud).all())
        True
    """
    from torch_geometric.data import Data

    view = next(iter(modality.views.values()))
    sample = {name: np.asarray(value) for name, value in modality.encode(record, view.name).items()}
    axes = len(modality.extent or (0,))
    nodes = math.prod(sample[next(iter(view.fields))].shape[:axes])
    graph, names = Data(num_nodes=nodes), _names(modality)
    joined = np.zeros((nodes, nodes), bool)
    for name in view.pairs:
        joined |= (sample[name] != 0).reshape(nodes, nodes, -1).any(-1)
    ends = np.stack(joined.nonzero())
    if view.pairs:
        graph.edge_index = torch.from_numpy(ends)
    for name, value in sample.items():
        flat = value[ends[0], ends[1]] if name in view.pairs else value.reshape(nodes, *value.shape[axes:])
        graph[names[name]] = torch.from_numpy(flat if flat.dtype.kind == "f" else flat.astype(np.int64))
    return graph


def from_graph(modality: Modality, graph: Any) -> Any:
    """The record whose fields a graph holds, as `to_graph` writes them.

    Errors: `DataError` naming the tensor that is missing or of another size.
    """
    view, names = next(iter(modality.views.values())), _names(modality)
    nodes = int(graph.num_nodes or 0)
    sample = {}
    for name, key in names.items():
        if key not in graph or (name in view.pairs and "edge_index" not in graph):
            raise DataError(
                f"a graph of PyG without {'edge_index' if key in graph else key}, expected what "
                f"molgen.to_pyg gives for {modality.name!r}",
                fix="add it, or give domain objects",
            )
        value = np.asarray(graph[key])
        if name in view.pairs:
            ends = np.asarray(graph.edge_index)
            whole = np.zeros((nodes, nodes, *value.shape[1:]), value.dtype)
            if ends.shape != (2, len(value)):
                raise DataError(f"edge_index of shape {ends.shape} for {len(value)} rows of {key}")
            whole[ends[0], ends[1]] = value
            sample[name] = whole
            continue
        if len(value) != nodes or (modality.extent is not None and nodes != math.prod(modality.extent)):
            raise DataError(f"{key} has {len(value)} rows for {nodes} nodes", fix="give one row a node")
        sample[name] = value.reshape(*(modality.extent or (nodes,)), *value.shape[1:])
    return modality.decode(sample, view.name)


def _names(modality: Modality) -> dict[str, str]:
    """The tensor that holds each field; the only points in space are what PyG's networks call `pos`."""
    fields = next(iter(modality.views.values())).fields
    points = [name for name, f in fields.items() if f.stream == "point"]
    return {name: "pos" if points == [name] and "pos" not in fields else name for name in fields}
