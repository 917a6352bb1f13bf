"""Domain objects to graphs of PyG and back, and data sets, arrays and frames that `fit` takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas
import pytest
import torch
from rdkit import Chem
from torch_geometric.data import Batch, Data, InMemoryDataset
from torch_geometric.loader import DataLoader

import molgen
from molgen.core.registry import get_modality
from molgen.io.samples import Samples
from molgen.modalities.molecule.codec import assemble
from molgen.modalities.protein.writing import pdb_text
from molgen.testing.toys import TOYS
from tests.models.cells import records, tiny


def state(mol: Chem.Mol) -> list[Any]:
    """All that RDKit knows of a molecule's atoms, bonds and coordinates."""
    atoms = [
        (
            a.GetAtomicNum(),
            a.GetFormalCharge(),
            a.GetTotalNumHs(),
            a.GetNumRadicalElectrons(),
            a.GetIsAromatic(),
        )
        for a in mol.GetAtoms()
    ]
    bonds = sorted(
        (*sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx())), b.GetBondType(), b.GetIsAromatic())
        for b in mol.GetBonds()
    )
    xyz = mol.GetConformer().GetPositions().tolist() if mol.GetNumConformers() else None
    return [atoms, bonds, xyz]


SMILES = ["CCO", "c1cc[nH]c1", "C[N+](C)(C)C", "[CH2]C", "[O-]c1ccccc1", "C", "C#N.O"]


@pytest.mark.parametrize("smiles", SMILES)
def test_a_graph_comes_back(smiles: str) -> None:
    mol = Chem.MolFromSmiles(smiles)
    (back,) = molgen.from_pyg(molgen.to_pyg([mol], "graph"), "graph")
    assert state(back) == state(mol)
    assert Chem.MolToSmiles(back) == Chem.MolToSmiles(mol)


def test_molecules_come_back_atom_by_atom() -> None:
    mols = records("molecule")
    graphs = molgen.to_pyg(mols, "molecule")
    back = molgen.from_pyg(graphs, "molecule")
    assert [state(b) for b in back] == [state(m) for m in mols]
    single = molgen.from_pyg(molgen.to_pyg(mols, "molecule", torch.float32), "molecule")
    for b, m in zip(single, mols, strict=True):
        ours, theirs = b.GetConformer().GetPositions(), m.GetConformer().GetPositions()
        assert (ours.astype(np.float32) == theirs.astype(np.float32)).all()


NITRO = np.array([[0, 2, 2], [2, 0, 0], [2, 0, 0]])


@pytest.mark.parametrize("bonds", [NITRO, NITRO + 1 - np.eye(3, dtype=int)])
def test_what_a_model_drew_is_not_repaired_on_the_way(bonds: np.ndarray) -> None:
    xyz = np.random.default_rng(0).normal(size=(3, 3))
    mol = assemble([("N", 0), ("O", 0), ("O", 0)], bonds, xyz)  # RDKit would write charges, or refuse
    (back,) = molgen.from_pyg(molgen.to_pyg([mol], "molecule"), "molecule")
    mol.UpdatePropertyCache(strict=False)
    assert state(back) == state(mol)


def test_backbones_come_back_line_by_line() -> None:
    chains = records("protein")[:3]
    drawn = get_modality("protein").decode({"ca": np.random.default_rng(0).normal(size=(9, 3))}, "cartesian")
    given = [*chains, drawn]
    back = molgen.from_pyg(molgen.to_pyg(given, "protein"), "protein")
    assert [pdb_text([b]) for b in back] == [pdb_text([g]) for g in given]
    assert [b.id for b in back] == [g.id for g in given]


@pytest.mark.parametrize("toy", TOYS)
def test_fields_come_back_in_every_geometry(toy: Any) -> None:
    data = next(iter(toy().datasets.values())).load("test")
    modality = toy().fit_to(data)
    graphs = molgen.to_pyg(data, modality)
    back = molgen.from_pyg(Batch.from_data_list(graphs), modality)  # joined, and parted again
    view = next(iter(modality.views))
    for record, graph, found in zip(data, graphs, back, strict=True):
        kept = modality.decode(modality.encode(record, view), view)
        assert type(found) is type(kept) is type(record)
        assert np.array_equal(found, kept)
        assert graph.num_nodes == modality.encode_all([record], view).sizes[0]


def test_images_are_graphs_of_pixels() -> None:
    images = records("image")[:2]
    modality = get_modality("image").fit_to(images)
    graphs = molgen.to_pyg(images, modality)
    assert graphs[0].num_nodes == 64
    assert all((a == b).all() for a, b in zip(molgen.from_pyg(graphs, modality), images, strict=True))


def test_strings_bring_their_graph() -> None:
    graphs = molgen.to_pyg(["OCC", "C"], "smiles")
    assert [g.smiles for g in graphs] == ["OCC", "C"]
    assert molgen.from_pyg(graphs, "smiles") == ["CCO", "C"]
    with pytest.raises(molgen.DataError, match="record 2: malformed"):
        molgen.to_pyg(["C", "C("], "smiles")


def test_graphs_are_batched_by_pyg() -> None:
    graphs = molgen.to_pyg(records("molecule")[:6], "molecule", torch.float32)
    (batch,) = DataLoader(graphs, batch_size=6)
    assert batch.pos.dtype == torch.float32
    assert batch.num_graphs == 6
    assert bool((batch.batch[batch.edge_index[0]] == batch.batch[batch.edge_index[1]]).all())


def test_samples_know_their_modality_and_others_must_tell() -> None:
    assert len(molgen.to_pyg(Samples(["CCO"], get_modality("smiles")))) == 1
    with pytest.raises(molgen.ConfigError, match="modality"):
        molgen.to_pyg(["CCO"])


@pytest.mark.parametrize(
    ("name", "graph", "error"),
    [
        ("graph", Data(z=torch.ones(1)), "without edge_attr"),
        ("protein", Data(num_nodes=2), "backbone is missing"),
        ("protein", Data(backbone=torch.zeros(2, 3)), r"backbone is of shape \(2, 3\)"),
        ("image", Data(num_nodes=64), "without image"),
    ],
)
def test_a_graph_that_lacks_something_is_refused(name: str, graph: Data, error: str) -> None:
    with pytest.raises(molgen.DataError, match=f"record 1: .*{error}"):
        molgen.from_pyg([graph], name)


class InMemory(InMemoryDataset):
    """Molecules as PyG's own data sets hold them."""

    def __init__(self) -> None:
        super().__init__()
        graphs = molgen.to_pyg(records("molecule")[:12], "molecule")
        for k, graph in enumerate(graphs):
            graph.y = torch.tensor([[float(k)]])
        self.data, self.slices = self.collate(graphs)


def images() -> np.ndarray:
    return np.stack(list(records("image")[:12]))


def frame() -> pandas.DataFrame:
    return pandas.DataFrame({"smiles": list(records("smiles")[:12]), "y": np.arange(12.0)})


@pytest.mark.parametrize(
    ("name", "data", "plain", "condition"),
    [
        ("molecule", InMemory, lambda: records("molecule")[:12], ["y"]),
        ("image", images, lambda: list(images()), []),
        ("smiles", frame, lambda: list(records("smiles")[:12]), ["y"]),
    ],
)
def test_fit_takes_data_sets_arrays_and_frames(
    name: str, data: Any, plain: Any, condition: list[str]
) -> None:
    given, expected = data(), plain()
    model = tiny(name).fit(given, max_steps=1, batch_size=8, condition=condition)
    same = tiny(name).fit(list(expected), max_steps=1, batch_size=8)
    assert model.history["runs"][0]["fingerprint"] == same.history["runs"][0]["fingerprint"]
    assert [c.name for c in model.conditions] == condition
