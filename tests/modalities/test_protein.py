"""The protein modality: closed-form coordinates both ways, rebuilt atoms, chirality, sizes, conditions."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
import torch

from molgen.core.errors import ConfigError, DataError, UnsupportedError
from molgen.core.records import Records
from molgen.core.trunk import Streams, TrunkSpec
from molgen.modalities.protein import ProteinModality
from molgen.modalities.protein.backbone import Backbone, coordinates, residues, sequence, trace
from molgen.modalities.protein.geometry import (
    BOND,
    FIRST,
    angle,
    dihedral,
    extended,
    from_internal,
    to_internal,
)
from molgen.modalities.protein.ideal import bundle, hairpin, helix, meander, relaxed, traces
from molgen.modalities.protein.rebuild import C_N, C_O, CA_C, N_CA, rebuild
from molgen.modalities.protein.secondary import (
    ANTIPARALLEL,
    HELIX,
    STRAND,
    assign,
    bridges,
    contents,
    segments,
    sheets,
)

MIRROR = np.array([1.0, 1.0, -1.0])


def chains() -> list[np.ndarray]:
    """Two bundles, two sheets."""
    return [traces()[i] for i in (0, 1, 2, 5)]


def walk(n: int, seed: int = 0) -> np.ndarray:
    """Random angles that a CA trace can have, `(n, 2)`."""
    draw = np.random.default_rng(seed)
    angles = np.stack([draw.uniform(1.4, 2.6, n), draw.uniform(-np.pi, np.pi, n)], 1)
    angles[:2, 0], angles[:3, 1] = FIRST
    return angles


# ---------------------------------------------------------------------- geometry


def test_internal_coordinates_and_back() -> None:
    angles = np.stack([walk(50, seed) for seed in range(4)])
    ca = from_internal(angles)
    assert np.allclose(np.linalg.norm(np.diff(ca, axis=1), axis=-1), BOND)
    assert np.allclose(ca.mean(1), 0)
    assert np.abs(np.angle(np.exp(1j * (to_internal(ca) - angles)))).max() < 1e-8


def test_traces_come_back_from_their_angles() -> None:
    for ca in chains():
        again = from_internal(to_internal(ca))
        u, _, v = np.linalg.svd(again.T @ ca)
        turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v
        assert np.abs(again @ turn - ca).max() < 1e-6


def test_the_helix_turns_right() -> None:
    ca = helix(20)
    assert np.allclose(np.linalg.norm(np.diff(ca, axis=0), axis=1), BOND)
    assert np.allclose(np.degrees(to_internal(ca)[3:, 1]), 50, atol=1)
    assert np.allclose(to_internal(ca * MIRROR)[3:, 1], -to_internal(ca)[3:, 1])
    square = [np.array(p, float) for p in ((1, 0, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1))]
    # Seen along the axis from the eye, the far bond lies clockwise of the near one.
    assert float(dihedral(*square)) == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 9])
def test_short_chains_are_continued(n: int) -> None:
    ca = helix(n)
    longer = extended(ca, 3)
    assert longer.shape == (n + 6, 3) and np.isfinite(longer).all()
    if n:
        assert np.allclose(longer[3 : n + 3], ca)
        assert np.allclose(np.linalg.norm(np.diff(longer, axis=0), axis=1), BOND)


# ---------------------------------------------------------------------- rebuilt atoms


def test_rebuilt_backbones_have_the_lengths_of_real_bonds() -> None:
    for ca, (x, _) in zip(chains(), rebuild(chains()), strict=True):
        n, c, o = x[:, 0], x[:, 2], x[:, 3]
        assert np.array_equal(x[:, 1], ca)
        for length, got in (
            (N_CA, ca - n),
            (CA_C, c - ca),
            (C_O, o - c),
            (C_N, n[1:] - c[:-1]),
        ):
            assert np.allclose(np.linalg.norm(got, axis=-1), length, atol=1e-6)
        omega = np.degrees(dihedral(ca[:-1], c[:-1], n[1:], ca[1:]))
        assert np.allclose(np.abs(omega), 180, atol=1e-4)
        assert abs(np.degrees(angle(n, ca, c)).mean() - 111) < 5


def test_unusual_bonds_stretch_angles_not_atoms() -> None:
    ca = chains()[0]
    bonds = np.linalg.norm(np.diff(rebuild([ca * 1.06])[0][0][:, 2], axis=0), axis=-1)
    assert np.isfinite(bonds).all()
    x = rebuild([ca * 1.06])[0][0]
    assert np.allclose(np.linalg.norm(x[1:, 0] - x[:-1, 2], axis=-1), C_N, atol=1e-3)
    cis = ca.copy()
    cis[20:] += (2.95 / BOND - 1) * (cis[20] - cis[19])
    x = rebuild([cis])[0][0]
    assert abs(float(dihedral(x[19, 1], x[19, 2], x[20, 0], x[20, 1]))) < 0.1


def test_rebuilding_turns_with_the_chain_and_tells_mirror_images() -> None:
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    for ca in chains():
        (x, near), (y, _), (z, far) = rebuild([ca, ca @ turn.T + 5.0, ca * MIRROR])
        assert np.abs(y - (x @ turn.T + 5.0)).max() < 1e-6
        assert near.mean() < 0.85 * far.mean()  # a mirror image lies farther from what proteins do
        assert np.abs(z * MIRROR - x)[:, 3].max() > 1.0  # and is not rebuilt as the mirrored backbone


def test_helices_get_their_hydrogen_bonds() -> None:
    x = rebuild([helix(20)])[0][0]
    bonds = np.linalg.norm(x[4:, 0] - x[:-4, 3], axis=-1)
    assert np.all((bonds[1:-1] > 2.7) & (bonds[1:-1] < 3.4))
    assert set(assign(x)[2:-2]) == {HELIX}


def test_undefined_coordinates_do_not_stop_the_others() -> None:
    ca = chains()[0].copy()
    ca[5] = np.nan
    x, distance = rebuild([ca, chains()[1]])[0]
    assert np.isfinite(x[20:]).all() and np.isinf(distance[5])


# ---------------------------------------------------------------------- secondary structure, ideal


def test_ideal_folds_are_what_they_claim() -> None:
    assert contents(rebuild([relaxed([bundle([20, 20])])[0]])[0][0])["helix"] > 0.6
    strands = assign(rebuild([hairpin(24)])[0][0])
    assert [run[0] for run in segments(strands)] == [STRAND, STRAND]
    four = rebuild(relaxed([meander(4, 7)]))[0][0]
    runs = [run[1:] for run in segments(assign(four))]
    assert [s for _, _, s in sheets(four[:, 1], runs)[0]] == [0, -1, -1, -1]


def test_bridges_are_the_pairs_that_make_strands(records: Records) -> None:
    """A residue is in a strand if it is paired, as pydssp has it; meandering sheets pair antiparallel."""
    for record in records:
        coords = coordinates(record)
        found, classes = bridges(coords), assign(coords)
        assert (found == found.T).all()
        assert not found.diagonal().any()
        alone = classes != HELIX
        assert ((found > 0).any(1) == (classes == STRAND))[alone].all()
    two = bridges(rebuild([hairpin(24)])[0][0])
    first, second = two.nonzero()
    assert set(two[first, second]) == {ANTIPARALLEL}
    assert len(set(first + second)) == 1  # each residue with its mirror image across the turn


def test_ideal_traces_are_exact_and_repeat() -> None:
    for ca in traces():
        assert 40 <= len(ca) <= 80
        assert np.abs(np.linalg.norm(np.diff(ca, axis=0), axis=1) - BOND).max() < 1e-3
        i, j = np.triu_indices(len(ca), 3)
        assert np.linalg.norm(ca[i] - ca[j], axis=-1).min() > 4.0
    once, again = (traces.__wrapped__(12) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


# ---------------------------------------------------------------------- structures


def test_a_backbone_is_a_structure_once_looked_into() -> None:
    x = rebuild([helix(8)])[0][0].astype(np.float32)
    chain = Backbone("demo", x, "ACDEFGHI", "B", [(i, " ") for i in range(5, 13)], np.arange(8.0))
    assert chain.untouched and coordinates(chain) is chain.arrays[0]
    other = copy.deepcopy(chain)
    assert [model.id for model in chain] == [0] and not chain.untouched
    assert [c.id for c in chain.get_chains()] == ["B"]
    assert [r.get_resname() for r in residues(chain)][:2] == ["ALA", "CYS"]
    assert chain[0]["B"][6]["CA"].bfactor == 1.0
    chain[0]["B"][6]["CA"].coord = np.array([9.0, 9.0, 9.0], np.float32)
    assert np.array_equal(trace(chain)[1], [9, 9, 9])  # what is inside is the truth now
    assert np.array_equal(trace(other)[1], x[1, 1])
    assert sequence(chain) == sequence(chain.copy()) == "ACDEFGHI"


def test_structures_that_lack_something_are_refused_by_name() -> None:
    chain = Backbone("demo", np.zeros((3, 4, 3), np.float32), "AGV")
    residues(chain)[1].detach_child("C")
    with pytest.raises(DataError, match="residue GLY 2 has no atom 'C'"):
        coordinates(chain)
    two = Backbone("demo", np.zeros((3, 4, 3), np.float32))
    two[0].add(Backbone("x", np.zeros((2, 4, 3)), chain="Z")[0]["Z"])
    with pytest.raises(DataError, match="2 chains where one was expected"):
        coordinates(two)


# ---------------------------------------------------------------------- the modality


@pytest.fixture(scope="module")
def modality() -> ProteinModality:
    return ProteinModality()


@pytest.fixture(scope="module")
def records(modality: ProteinModality) -> Records:
    found = modality.datasets["ideal"].load("valid")
    assert isinstance(found, Records)
    return found


def test_views_come_back(modality: ProteinModality, records: Records) -> None:
    for view, tolerance in (("cartesian", 1e-3), ("folded", 1e-3), ("internal", 2e-2)):
        batch = modality.encode_all(records, view)
        back = modality.decode_all(batch, view)
        for before, after in zip(records, back, strict=True):
            a, b = trace(before).astype(float), trace(after).astype(float)
            if view == "internal":
                u, _, v = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
                b = (b - b.mean(0)) @ u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ v))]) @ v + a.mean(0)
            assert np.abs(a - a.mean(0) - (b - b.mean(0))).max() < tolerance
        again = modality.encode_all(back, view)
        for name, values in batch.values.items():
            difference = values - again.values[name]
            assert float(torch.remainder(difference + math.pi, 2 * math.pi).sub(math.pi).abs().max()) < 1e-3


def test_views_have_the_properties_that_families_ask_for(modality: ProteinModality) -> None:
    assert modality.view(denoisable=True).name == "cartesian"
    assert modality.view(ordered=True).name == "internal"
    values = modality.encode(modality.datasets["ideal"].load("test")[0], "cartesian")["ca"]
    assert values.dtype == np.float32 and np.abs(values.mean(0)).max() < 1e-5


def test_decoding_is_total(modality: ProteinModality) -> None:
    for n in (1, 2, 5):
        for fill in (0.0, 1e6, np.nan):
            record = modality.decode({"ca": np.full((n, 3), fill, np.float32)}, "cartesian")
            assert len(coordinates(record)) == n and not modality.is_valid(record)
            assert len(list(record.get_residues())) == n


def test_bad_records_are_refused(modality: ProteinModality) -> None:
    with pytest.raises(DataError, match="record 2: coordinates that are not finite"):
        modality.encode_all(
            [Backbone("a", np.zeros((5, 4, 3))), Backbone("b", np.full((5, 4, 3), np.nan))], "cartesian"
        )
    with pytest.raises(DataError, match="without residues"):
        modality.encode(Backbone("a", np.zeros((0, 4, 3))), "cartesian")


def test_fitting_and_config(modality: ProteinModality, records: Records) -> None:
    fitted = modality.fit_to(records)
    again = ProteinModality(**json.loads(json.dumps(fitted.config())))
    assert again.config() == fitted.config() and sum(fitted.sizes.values()) == len(records)
    spread = np.concatenate([trace(r) - trace(r).mean(0) for r in records]).std() / 10
    assert fitted.sd == pytest.approx(spread, rel=0.01)
    assert fitted.helix[0] == pytest.approx(float(np.mean(records.labels["helix"])), abs=1e-5)
    assert math.fsum(math.exp(fitted.log_size(n)) for n in range(300)) == pytest.approx(1)
    assert fitted.log_size(999) == -math.inf


def test_sizes_are_drawn_by_seed_and_index() -> None:
    wide = ProteinModality({n: 1 for n in range(40, 257)})
    drawn = wide.draw_sizes(3, range(400))
    assert min(drawn) >= 64 and max(drawn) <= 128 and len(set(drawn)) > 50
    assert wide.draw_sizes(3, [7, 9]) == [drawn[7], drawn[9]]
    assert set(ProteinModality({40: 1, 79: 3}).draw_sizes(0, range(40))) == {40, 79}
    assert wide.draw_sizes(0, range(3), length="90") == [90, 90, 90]
    for bad in ("ten", 2, 80.5, float("nan")):
        with pytest.raises(ConfigError, match="whole number of residues"):
            wide.draw_sizes(0, [0], length=bad)
    with pytest.raises(ConfigError, match="shortest and the longest"):
        ProteinModality(draw=(128, 64))


def test_conditions_are_measured_as_they_are_labelled(modality: ProteinModality, records: Records) -> None:
    assert set(modality.conditions) == {"helix", "strand"} and modality.size_options == ("length",)
    for name in ("helix", "strand"):
        assert modality.measure(records[0], name) == pytest.approx(float(records.labels[name][0]), abs=1e-6)
    with pytest.raises(UnsupportedError, match="choose among helix, strand"):
        modality.measure(records[0], "logp")


def test_trunks_are_chosen_by_name(modality: ProteinModality) -> None:
    trunk = modality.trunk(
        TrunkSpec(point=1, context=4, point_out=True), depth=1, width=16, pair_width=8, heads=2
    )
    out = trunk(Streams(point=torch.randn(2, 6, 1, 3)), torch.ones(2, 6) > 0, torch.randn(2, 4))
    assert out.point is not None and out.point.shape == (2, 6, 3)
    with pytest.raises(ConfigError, match="did you mean 'pair'"):
        modality.trunk(TrunkSpec(point=1), "par")


def test_pictures(modality: ProteinModality, records: Records, tmp_path: object) -> None:
    from pathlib import Path

    from PIL import Image

    path = Path(str(tmp_path)) / "x.png"
    odd = [Backbone("n", np.full((9, 4, 3), np.nan)), Backbone("s", np.zeros((2, 4, 3)))]
    modality.plot([records[0], records[1], *odd], path)
    with Image.open(path) as picture:
        assert len({colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}) > 50
    with pytest.raises(DataError, match="nothing to draw"):
        modality.plot([], path)
