"""What a modality has that gives only fields, encode and decode: sizes, scales, files, scores, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from molgen.core.batch import Sample
from molgen.core.errors import ConfigError, DataError
from molgen.core.fields import Angles, Categorical, Continuous, Field, Positions
from molgen.core.modality import Modality
from molgen.core.records import Records
from molgen.core.trunk import TrunkSpec
from molgen.io.formats import read, write
from molgen.io.resolve import resolve
from molgen.metrics.generic import two_sample


class Lines(Modality):
    """Curves on a line."""

    name = "lines"

    @property
    def fields(self) -> Mapping[str, Field]:
        return {"x": Continuous(1, **self.learned("x"))}

    def encode(self, record: Any, view: str) -> Sample:
        x = np.asarray(record)
        if x.ndim != 1 or not len(x) or x.dtype.kind not in "fiu":
            raise DataError("no curve")
        return {"x": x.astype(np.float32)[:, None]}

    def decode(self, sample: Sample, view: str) -> np.ndarray:
        return sample["x"][:, 0]


class Mixed(Lines):
    """Everything at once: letters of an alphabet, bonds between them, places, turns."""

    name = "mixed"

    def __init__(self, alphabet: str = "ab", **learned: Any) -> None:
        super().__init__(**learned)
        self.alphabet = alphabet

    @property
    def fields(self) -> Mapping[str, Field]:
        return {
            "letters": Categorical(len(self.alphabet), **self.learned("letters")),
            "bonds": Categorical(2, pairs=True, **self.learned("bonds")),
            "places": Positions(**self.learned("places")),
            "turns": Angles(1),
        }

    def learn(self, records: Sequence[Any]) -> dict[str, Any]:
        return {"alphabet": "".join(sorted({c for word, _ in records for c in word}))}

    def encode(self, record: Any, view: str) -> Sample:
        word, places = record
        places = np.asarray(places, np.float32)
        near = np.linalg.norm(places[:, None] - places, axis=-1) < 1
        return {
            "letters": np.array([self.alphabet.index(c) for c in word]),
            "bonds": (near & ~np.eye(len(word), dtype=bool)).astype(np.uint8),
            "places": places - places.mean(0),
            "turns": np.arctan2(places[:, :1], places[:, 1:2]),
        }

    def decode(self, sample: Sample, view: str) -> Any:
        return "".join(self.alphabet[int(i) % len(self.alphabet)] for i in sample["letters"]), sample[
            "places"
        ]


def curves(n: int, seed: int = 0, scale: float = 1.0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [
        scale * np.sin(np.arange(draw.integers(6, 10)) + draw.uniform(0, 6)).astype(np.float32)
        for _ in range(n)
    ]


def words(n: int, seed: int = 0) -> list[Any]:
    draw = np.random.default_rng(seed)
    out = []
    for _ in range(n):
        word = "".join(draw.choice(list("xyz"), draw.integers(1, 5), p=[0.5, 0.3, 0.2]))
        places = draw.normal(size=(len(word), 3)).astype(np.float32)
        out.append((word, places - places.mean(0)))
    return out


def test_fitting_learns_sizes_scales_labels_and_keeps_the_old_one() -> None:
    data = Records(curves(50), {"kind": np.arange(50) % 3, "height": np.linspace(0, 1, 50)})
    plain = Lines()
    before = plain.config()
    fitted = plain.fit_to(data)
    assert plain.config() == before
    values = np.concatenate(data.items)
    assert fitted.fields["x"].mean == pytest.approx(values.mean(), abs=1e-4)  # type: ignore[attr-defined]
    assert fitted.fields["x"].sd == pytest.approx(values.std(), abs=1e-4)  # type: ignore[attr-defined]
    assert sum(fitted.sizes.counts.values()) == 50
    assert {n: type(c).__name__ for n, c in fitted.conditions.items()} == {
        "kind": "Label",
        "height": "Scalar",
    }
    assert type(fitted)(**fitted.config()).config() == fitted.config()
    assert set(fitted.draw_sizes(0, range(100))) <= set(map(len, data))
    assert np.exp([fitted.log_size(n) for n in range(1, 20)]).sum() == pytest.approx(1)


def test_every_field_learns_its_scale() -> None:
    data = words(200)
    fitted = Mixed().fit_to(data)
    assert fitted.alphabet == "xyz"
    letters = fitted.scales["letters"]["marginal"]
    assert letters == pytest.approx([0.5, 0.3, 0.2], abs=0.08)
    places = np.concatenate([p - p.mean(0) for _, p in data])
    assert fitted.scales["places"]["sd"] == pytest.approx(places.std(), rel=1e-4)
    bonds = [fitted.encode(record, "fields")["bonds"] for record in data]
    share = sum(b.sum() for b in bonds) / sum(b.size - len(b) for b in bonds)
    assert fitted.scales["bonds"]["marginal"][1] == pytest.approx(share, rel=1e-3)
    assert "turns" not in fitted.scales
    assert not fitted.views["fields"].invariant and Lines().views["fields"].invariant


def test_readings_of_points_do_not_change_when_they_move() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    turned = x @ np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0] + 4
    assert np.allclose(Positions().invariants(x), Positions().invariants(turned))
    assert Positions().invariants(x[:1]).shape == (0, 1)


def test_levels_learn_the_share_of_each() -> None:
    field = Continuous(1, levels=3)
    assert field.learn([np.array([[-1.0], [1.0], [1.0], [0.0]])])["shares"] == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_files_come_back(tmp_path: Path, suffix: str) -> None:
    for modality, data in ((Lines(), curves(5)), (Mixed("xyz"), words(5))):
        path = tmp_path / f"{modality.name}{suffix}"
        write(modality, path, data)
        back = read(modality, path)
        for a, b in zip(data, back, strict=True):
            first, second = modality.encode(a, "fields"), modality.encode(b, "fields")
            assert all(np.allclose(first[k], second[k], atol=1e-6) for k in first)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "a.json, line 1: not JSON"),
        ("{}", "a dict, expected a list"),
        ('[{"y": [1]}]', "a.json, record 1: fields y, expected x"),
        ('[{"x": [[1], [2, 3]]}]', "no array of numbers"),
        ('[{"x": 3}]', "no value of it"),
        ("[]", "no records"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=why):
        read(Lines(), tmp_path / "a.json")


def test_bad_npz_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros(5), y=np.zeros(2))
    with pytest.raises(DataError, match="no array 'shape/x'"):
        read(Lines(), path)
    np.savez(path, **{"x": np.zeros(5), "shape/x": np.array([[2, 1]])})  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not fill its shapes"):
        read(Lines(), path)
    np.savez(path, rows=np.zeros((3, 7)))
    assert len(read(Lines(), path)) == 3


def test_arrays_tensors_and_frames_are_read() -> None:
    rows = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for data in (rows, torch.tensor(rows), [list(map(float, row)) for row in rows]):
        found = resolve(Lines(), data)
        assert np.allclose(np.stack([Lines().encode(r, "fields")["x"][:, 0] for r in found]), rows)
    pandas = pytest.importorskip("pandas")
    assert np.allclose(np.stack(resolve(Lines(), pandas.DataFrame(rows)).items), rows)
    with pytest.raises(DataError, match="column 'a' holds no numbers, and lines reads no CSV"):
        resolve(Lines(), pandas.DataFrame({"a": ["x"]}))
    with pytest.raises(DataError, match="without axes"):
        resolve(Lines(), np.array(3.0))
    with pytest.raises(DataError, match="data of type int, expected"):
        resolve(Lines(), 3)  # type: ignore[arg-type]


def test_frames_and_graphs_of_molecules_are_read() -> None:
    from rdkit import Chem
    from torch_geometric.data import Data

    from molgen.core.registry import get_modality

    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"smiles": ["CCO", "C"], "height": [1.5, 2.5]})
    found = resolve(get_modality("smiles"), frame)
    assert list(found) == ["CCO", "C"] and found.labels["height"].tolist() == [1.5, 2.5]
    with pytest.raises(DataError, match="frame in memory, line 3: malformed SMILES"):
        resolve(get_modality("graph"), pandas.DataFrame({"smiles": ["CCO", "C("]}))
    ends = torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]])
    single = torch.tensor([[1.0, 0, 0, 0]] * 4)
    places = torch.tensor([[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
    water = Data(z=torch.tensor([8, 1, 1]), edge_index=ends, edge_attr=single, pos=places, y=torch.ones(1, 2))
    found = resolve(get_modality("molecule"), [water, water])
    assert Chem.MolToSmiles(found[0]) == "[H]O[H]" and set(found.labels) == {"y0", "y1"}
    assert np.allclose(found[0].GetConformer().GetPositions(), places)
    assert resolve(get_modality("smiles"), [Data(smiles="OCC"), water])[:].items == ["CCO", "O"]
    with pytest.raises(DataError, match="record 2: a graph of PyG without edge_attr"):
        resolve(get_modality("graph"), [water, Data(z=torch.tensor([8]))])
    with pytest.raises(
        DataError, match="record 1: a graph of PyG without image, expected what molgen.to_pyg"
    ):
        resolve(get_modality("image"), [water])


def test_scores_tell_data_from_what_is_none() -> None:
    modality, reference = Lines(), curves(400)
    good = modality.evaluate([*curves(200, seed=1), "bad"], reference)
    assert good["valid"] == pytest.approx(200 / 201) and good["unique"] == 1
    bad = modality.evaluate(curves(200, seed=1, scale=1.5), reference)
    assert bad["ratio/frechet"] > 4 > good["ratio/frechet"]
    assert bad["two_sample"] > 0.8 > good["two_sample"]
    assert bad["marginal/x"] > 2 * bad["floor/marginal/x"]
    copies = modality.evaluate(curves(20) * 10, reference)
    assert copies["unique"] == 0.1 and copies["recall"] < 0.5 < good["recall"]
    assert set(modality.evaluate(curves(3))) == {"n", "valid", "unique"}
    with pytest.raises(DataError, match="3 records that can be encoded, expected at least 10"):
        modality.evaluate(curves(3), reference)
    with pytest.raises(ConfigError, match="unknown reference of lines"):
        modality.evaluate(curves(30), "nothing")


def test_scores_of_every_kind_of_field() -> None:
    mixed = Mixed("xyz")
    scores = mixed.evaluate(words(100, seed=1), words(200))
    assert {f"marginal/{name}" for name in mixed.fields} <= set(scores)
    assert all(np.isfinite(value) for value in scores.values())
    same_size = Lines().evaluate([c[:6] for c in curves(100, 1)], [c[:6] for c in curves(200)])
    assert same_size["size"] == 0 and np.isfinite(same_size["frechet"])


def test_a_forest_cannot_tell_one_law_from_itself() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 3))
    assert abs(two_sample(x[:500], x[500:]) - 0.5) < 0.06


def test_pictures(tmp_path: Path) -> None:
    from PIL import Image

    for modality, data in ((Lines(), curves(5)), (Mixed("xyz"), words(3))):
        path = tmp_path / f"{modality.name}.png"
        modality.plot(data, path)
        with Image.open(path) as picture:
            assert min(picture.size) > 100
    with pytest.raises(DataError, match="no lines to draw"):
        Lines().plot([], tmp_path / "b.png")


def test_arguments_that_are_not_kept_are_named() -> None:
    class Forgetful(Lines):
        def __init__(self, rate: float = 1.0, **learned: Any) -> None:
            super().__init__(**learned)

    class Odd(Lines):
        def __init__(self, rate: object = None, **learned: Any) -> None:
            super().__init__(**learned)
            self.rate = object() if rate is None else rate

    with pytest.raises(ConfigError, match="takes 'rate' but keeps no attribute"):
        Forgetful().config()
    with pytest.raises(ConfigError, match="not JSON"):
        Odd().config()


def test_the_default_trunk_suits_the_streams() -> None:
    assert type(Lines().trunk(TrunkSpec(site=2))).__name__ == "Transformer"
    assert type(Lines().trunk(TrunkSpec(site=2, pair=2, pair_out=True))).__name__ == "PairTransformer"
    grid = Lines()
    grid.extent = (8, 8)
    assert type(grid.trunk(TrunkSpec(site=2))).__name__ == "UNet"
    assert grid.draw_sizes(0, [0, 1]) == [64, 64] and grid.log_size(64) == 0
    with pytest.raises(ConfigError, match="unknown trunk of lines 'unet'"):
        Lines().trunk(TrunkSpec(site=2), "unet")
    with pytest.raises(ConfigError, match="unknown size option of lines 'length'"):
        Lines().draw_sizes(0, [0], length=3)


def test_records_of_many_fields_are_few_in_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    class Wide(Lines):
        @property
        def fields(self) -> Mapping[str, Field]:
            return {f"x{i}": Continuous(1) for i in range(40)}

        def encode(self, record: Any, view: str) -> Sample:
            return dict.fromkeys(self.fields, super().encode(record, view)["x"])

    Wide().plot([[0.0, 1.0]] * 16, tmp_path / "wide.png")
    with Image.open(tmp_path / "wide.png") as picture:
        assert picture.height < 300  # one row of panels
