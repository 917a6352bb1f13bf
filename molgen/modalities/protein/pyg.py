"""Backbones to the graphs of PyG and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from molgen.core.errors import DataError
from molgen.modalities.protein.backbone import LETTERS, TO_LETTER, Backbone
from molgen.modalities.protein.writing import Chain

_UNKNOWN = len(LETTERS)


def to_pyg(structure: Any) -> Any:
    """The chain of a structure: a `torch_geometric.data.Data` with a node for each residue.

    Returns: `pos` `(n, 3)`, the CA atoms in Angstrom; `backbone` `(n, 4, 3)`, N, CA, C and O; `edge_index`
    `(2, 2(n - 1))`, residues that follow each other in both directions; `residue` `(n,)`, places in
    ``ACDEFGHIKLMNPQRSTVWY`` or 20, where the sequence is known; `number` `(n,)` and `insertion`, a text of n
    letters, of the residues; `bfactor` `(n,)`; and `name`, `chain` and `drawn` (by a model) of the whole.

    Errors: `DataError` if a residue lacks an atom, or there is not exactly one chain.

    Example:
        >>> graph = to_pyg(Backbone("demo", np.zeros((3, 4, 3), np.float32), "AGA"))
        >>> graph.residue.tolist(), graph.edge_index.tolist()
        ([0, 5, 0], [[0, 1, 1, 2], [1, 0, 2, 1]])
    """
    import torch
    from torch_geometric.data import Data

    chain = Chain.of(structure)
    n, coords = len(chain.coords), torch.from_numpy(np.array(chain.coords))
    here = torch.arange(max(n - 1, 0))
    graph = Data(
        pos=coords[:, 1],
        backbone=coords,
        edge_index=torch.stack([here, here + 1, here + 1, here], 1).reshape(-1, 2).T.contiguous(),
        number=torch.tensor([number for number, _ in chain.numbers], dtype=torch.long),
        insertion="".join(code for _, code in chain.numbers),
        bfactor=torch.from_numpy(np.array(chain.bfactor)),
        name=str(structure.id),
        chain=chain.chain,
        drawn=chain.drawn,
        num_nodes=n,
    )
    if not chain.nameless:
        letters = [TO_LETTER.get(name, "X") for name in chain.names]
        codes = [LETTERS.index(letter) if letter in LETTERS else _UNKNOWN for letter in letters]
        graph.residue = torch.tensor(codes, dtype=torch.long)
    return graph


def from_pyg(graph: Any) -> Backbone:
    """The backbone of a graph, as `to_pyg` gives them; only `backbone` `(n, 4, 3)` must be there.

    Errors: `DataError` if that is missing or of another shape.
    """
    coords = np.asarray(graph["backbone"]) if "backbone" in graph else np.zeros(0)
    if coords.shape[1:] != (4, 3):
        got = f"of shape {coords.shape}" if "backbone" in graph else "missing"
        raise DataError(
            f"a graph of PyG whose backbone is {got}, expected (n, 4, 3): N, CA, C and O in Angstrom",
            fix="add it, or give structures",
        )
    sequence = numbers = None
    if "residue" in graph:
        sequence = "".join(f"{LETTERS}X"[min(int(code), _UNKNOWN)] for code in graph.residue)
    if "number" in graph:
        codes = graph.insertion if "insertion" in graph else " " * len(coords)
        numbers = [(int(number), code) for number, code in zip(graph.number, codes, strict=True)]
    return Backbone(
        graph["name"] if "name" in graph else "pyg",
        coords,
        sequence,
        graph.chain if "chain" in graph else "A",
        numbers,
        np.asarray(graph.bfactor) if "bfactor" in graph else None,
        bool(graph.drawn) if "drawn" in graph else False,
    )
