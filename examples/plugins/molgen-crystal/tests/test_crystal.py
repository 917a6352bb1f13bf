"""Crystals keep what molgen promises of every kind of data; what is known of the prototypes comes out."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import gemmi
import numpy as np
import pytest
from molgen_crystal import Crystal, Crystals, crystals
from molgen_crystal.metrics import charge, coordination, match
from molgen_crystal.prototypes import IONS, PROTOTYPES

from molgen.core.errors import DataError
from molgen.io.formats import read, write
from molgen.testing import Cell, Subject, check_modality, modality_checks

FAMILIES = ["autoregressive", "consistency", "diffusion", "energy", "flow", "gan", "vae"]
SOME = crystals(24, seed=1)
MOVED = np.array([0.13, 0.57, 0.91])


def moved(crystal: Crystal, by: np.ndarray) -> Crystal:
    places = tuple(map(tuple, ((np.array(crystal.places) + by) % 1).tolist()))
    return Crystal(crystal.lengths, crystal.angles, crystal.species, places)


def test_conformance() -> None:
    check_modality(Crystals(), SOME, families=[])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family(family: str) -> None:
    for check in modality_checks(Crystals(), SOME, [family]):
        if str(check).startswith(family):
            check()


def test_no_family_refuses_crystals() -> None:
    subject = Subject(Crystals(), SOME)
    assert not any(Cell(subject, family).refusal for family in FAMILIES)


def test_translation_changes_nothing() -> None:
    kind = Crystals().fit_to(SOME)
    for crystal in SOME:
        first, second = (kind.encode(c, "atoms") for c in (crystal, moved(crystal, MOVED)))
        assert (first["species"] == second["species"]).all() and (first["cell"] == second["cell"]).all()
        gap = first["places"] - second["places"]
        assert np.abs(gap - np.rint(gap)).max() < 1e-6
        assert moved(crystal, MOVED).nearest == pytest.approx(crystal.nearest)


def test_the_cell_agrees_with_gemmi() -> None:
    for crystal in SOME:
        cell = gemmi.UnitCell(*crystal.lengths, *crystal.angles)
        assert crystal.volume == pytest.approx(cell.volume)
        x, y = crystal.places[:2]
        apart = [
            cell.orthogonalize(gemmi.Fractional(*(q - p + k for p, q, k in zip(x, y, image, strict=True))))
            for image in product(range(-2, 3), repeat=3)
        ]
        assert crystal.distances[0, 1].min() == pytest.approx(min(gap.length() for gap in apart))


@pytest.mark.parametrize("prototype", PROTOTYPES, ids=lambda p: p.name.replace(" ", "-"))
def test_ions_of_a_prototype_touch_and_are_neutral(prototype: object) -> None:
    p = prototype
    for composition in p.compositions:
        ideal = p.ideal(composition)
        assert charge(ideal) == 0
        assert coordination(ideal) == [p.neighbours[role] for role in p.roles]
        assert match(ideal) == p.name
        touching = {composition[role] for role in p.touching}
        ions = [element in touching for element in ideal.species]
        sign = np.array([IONS[element][0] for element in ideal.species])
        opposite = (sign[:, None] * sign[None] < 0) & np.outer(ions, ions)
        bond = ideal.distances[opposite].min()
        assert bond == pytest.approx(sum(IONS[composition[role]][1] for role in p.touching))


def test_real_crystals_are_near_the_formula() -> None:
    """Lattice constants and densities of NaCl and CaF2 as measured (5.640 A, 2.16; 5.463 A, 3.18)."""
    salt, fluorite = PROTOTYPES[0].ideal(("Na", "Cl")), PROTOTYPES[4].ideal(("Ca", "F"))
    assert salt.lengths[0] == pytest.approx(5.640, rel=0.01) and salt.density == pytest.approx(2.16, rel=0.02)
    assert fluorite.lengths[0] == pytest.approx(5.463, rel=0.02)
    assert fluorite.density == pytest.approx(3.18, rel=0.05)


def test_strained_crystals_match_their_prototypes() -> None:
    names = [match(crystal) for crystal in crystals(600, seed=3)]
    right = [name == PROTOTYPES[i % 6].name for i, name in enumerate(names)]
    assert np.mean(right) > 0.98
    shaken = [match(crystal) for crystal in crystals(120, seed=3, displacement=1.0)]
    assert np.mean([name is None for name in shaken]) > 0.9


def test_crystals_depend_on_their_seed_alone() -> None:
    assert crystals(5, seed=2) == crystals(9, seed=2)[:5] != crystals(5, seed=3)


def test_cif_round_trip(tmp_path: Path) -> None:
    impossible = Crystal((3.0, 3.0, 3.0), (20.0, 90.0, 160.0), ("Na",), ((0.0, 0.0, 0.0),))
    kind = Crystals().fit_to(SOME)
    for suffix in (".cif", ".cif.gz"):
        path = tmp_path / f"some{suffix}"
        write(kind, path, SOME)
        for crystal, back in zip(SOME, read(kind, path), strict=True):
            assert back.species == crystal.species
            assert back.lengths == pytest.approx(crystal.lengths, abs=1e-5)
            assert back.angles == pytest.approx(crystal.angles, abs=1e-5)
            gap = np.array(back.places) - np.array(crystal.places)
            assert np.abs(gap - np.rint(gap)).max() < 2e-6
    write(kind, tmp_path / "odd.cif", [SOME[0], impossible])
    assert len(list(gemmi.cif.read(str(tmp_path / "odd.cif")))) == 2
    assert not kind.is_valid(impossible)


def test_symmetry_of_a_cif_is_spelt_out(tmp_path: Path) -> None:
    """Rock salt as databases give it: two sites and a space group."""
    path = tmp_path / "salt.cif"
    path.write_text(
        "data_salt\n_cell_length_a 5.64\n_cell_length_b 5.64\n_cell_length_c 5.64\n_cell_angle_alpha 90\n"
        "_cell_angle_beta 90\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'F m -3 m'\nloop_\n"
        "_atom_site_label\n_atom_site_type_symbol\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
        "Na1 Na 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"
    )
    (salt,) = read(Crystals(), path)
    assert match(salt) == "rock salt" and salt.nearest == pytest.approx(2.82)


def test_bad_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.cif"
    path.write_text("data_a\n_cell_length_a 4\n")
    with pytest.raises(DataError, match=r"bad\.cif, record 1: no "):
        read(Crystals(), path)
    path.write_text("no cif at all {")
    with pytest.raises(DataError, match=r"bad\.cif: not a CIF"):
        read(Crystals(), path)


def test_scores_tell_crystals_from_gas() -> None:
    draw = np.random.default_rng(0)
    gas = [
        Crystal(c.lengths, c.angles, c.species, tuple(map(tuple, draw.uniform(size=(len(c.species), 3)))))
        for c in SOME
    ]
    kind = Crystals()
    good, bad = (kind.evaluate(some, crystals(200, seed=5)) for some in (crystals(60, seed=6), gas))
    assert good["prototype"] > 0.95 and bad["prototype"] < 0.1
    assert good["wasserstein/nearest"] < 0.3 < bad["wasserstein/nearest"]
    assert good["neutral"] == bad["neutral"] == 1
    assert math.isfinite(bad["frechet"])
