"""What is measured on one chain: fixed descriptors of the fold, and checks of its local geometry."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from molgen.modalities.protein.geometry import angle, dihedral, to_internal
from molgen.modalities.protein.rebuild import rebuild
from molgen.modalities.protein.secondary import contents, hydrogen_bonds

CONTACT = 8.0
CLASH = 4.0
GAPS = (3, 5, 8, 16, 32, 64)
"""First sequence separation of each group of contacts; the last group is open."""

WIDTH = 9 + 18 + len(GAPS) + 12 + 4
"""Number of descriptors of a fold."""


def folds(traces: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Descriptors of every CA trace `(N, 3)` in Angstrom, by name.

    Secondary structure and hydrogen bonds are those of the backbone rebuilt from the trace, for data
    and samples alike, so that only CA atoms are compared.

    Returns: `vector` `(n, WIDTH)`: theta in 9 bins of 75-165 deg, tau in 18 bins, contacts (under 8 A)
    per residue in six groups of sequence separation, CA distances over :math:`2.2 N^{.38}` in 12 bins
    of 0-4, helix and strand content, Rg over :math:`2.2 N^{.38}`, relative contact order. Each of the
    last four, and `hbonds` (per 100 residues), also under its own name, `(n,)`.

    Example:
        >>> t = np.arange(30) * 1.745
        >>> helix = np.stack([2.3 * np.cos(t), 2.3 * np.sin(t), 0.86 * t], 1)
        >>> found = folds([helix])
        >>> found["vector"].shape, bool(found["helix"][0] > 0.8)
        ((1, 49), True)
    """
    rows, bonds = [], []
    for ca, (backbone, _) in zip(traces, rebuild(traces), strict=True):
        rows.append(_vector(np.asarray(ca, np.float64), backbone))
        bonds.append(100.0 * hydrogen_bonds(backbone) / max(len(ca), 1))
    vector = np.array(rows).reshape(-1, WIDTH)
    names = ("helix", "strand", "rg_ratio", "contact_order")
    return {"vector": vector, "hbonds": np.array(bonds), **dict(zip(names, vector.T[-4:], strict=True))}


def _vector(ca: np.ndarray, backbone: np.ndarray) -> np.ndarray:
    n = len(ca)
    angles = np.degrees(to_internal(ca))
    theta = np.histogram(np.clip(angles[2:, 0], 75, 165 - 1e-9), 9, (75, 165))[0] / max(n - 2, 1)
    tau = np.histogram(angles[3:, 1], 18, (-180, 180))[0] / max(n - 3, 1)
    i, j = np.triu_indices(n, 1)
    distance, gap = np.linalg.norm(ca[i] - ca[j], axis=-1), j - i
    near = gap[(distance < CONTACT) & (gap >= GAPS[0])]
    groups = np.histogram(near, [*GAPS, np.inf])[0] / max(n, 1)
    size = 2.2 * max(n, 1) ** 0.38
    far = np.histogram(distance / size, 12, (0, 4))[0] / max(len(distance), 1)
    share = contents(backbone)
    radius = np.sqrt(((ca - ca.mean(0)) ** 2).sum(-1).mean()) if n else 0.0
    order = near.mean() / n if len(near) else 0.0
    last = [share["helix"], share["strand"], radius / size, order]
    return np.concatenate([theta, tau, groups, far, last])


def locals_of(chains: Sequence[np.ndarray]) -> dict[str, float]:
    """Checks of local geometry over all residues of backbones `(N, 4, 3)` in Angstrom, pooled.

    Keys: `ca_ca` (share of consecutive CA within 3.80 +- .10 A), `clashes` (CA pairs under 4.0 A, three
    or more residues apart, per 100 residues), `tau_right` and `tau_left` (shares of CA torsions in
    (30, 75) and (-90, -30) deg), means of bond lengths (`n_ca`, `ca_c`, `c_n`, `c_o`, A) and angles
    (`n_ca_c`, `ca_c_n`, `c_n_ca`, deg), `omega` (RMS deviation of trans peptides from 180 deg) and `cis`
    (share of peptides with \\|omega\\| under 90 deg).
    """
    lists: dict[str, list[np.ndarray]] = {}

    def add(name: str, values: np.ndarray) -> None:
        lists.setdefault(name, []).append(values)

    clashes = total = 0
    for x in chains:
        n, ca, c, o = (np.asarray(x[:, k], np.float64) for k in range(4))
        total += len(ca)
        clashes += count_clashes(ca)
        add("step", np.linalg.norm(np.diff(ca, axis=0), axis=-1))
        add("tau", np.degrees(to_internal(ca)[3:, 1]))
        add("n_ca", np.linalg.norm(ca - n, axis=-1))
        add("ca_c", np.linalg.norm(c - ca, axis=-1))
        add("c_n", np.linalg.norm(n[1:] - c[:-1], axis=-1))
        add("c_o", np.linalg.norm(o - c, axis=-1))
        add("n_ca_c", np.degrees(angle(n, ca, c)))
        add("ca_c_n", np.degrees(angle(ca[:-1], c[:-1], n[1:])))
        add("c_n_ca", np.degrees(angle(c[:-1], n[1:], ca[1:])))
        add("omega", np.degrees(dihedral(ca[:-1], c[:-1], n[1:], ca[1:])))
    flat = {name: np.concatenate(parts) for name, parts in lists.items()}
    out = {
        "ca_ca": _mean(np.abs(flat["step"] - 3.8) <= 0.1),
        "clashes": 100.0 * clashes / max(total, 1),
        "tau_right": _mean((flat["tau"] > 30) & (flat["tau"] < 75)),
        "tau_left": _mean((flat["tau"] > -90) & (flat["tau"] < -30)),
    }
    out |= {name: _mean(flat[name]) for name in ("n_ca", "ca_c", "c_n", "c_o", "n_ca_c", "ca_c_n", "c_n_ca")}
    cis = np.abs(flat["omega"]) < 90
    out["omega"] = float(np.sqrt(_mean((180 - np.abs(flat["omega"][~cis])) ** 2)))
    return out | {"cis": _mean(cis)}


def count_clashes(ca: np.ndarray) -> int:
    """Number of CA pairs under 4.0 A that are at least three residues apart, of a trace `(N, 3)`."""
    i, j = np.triu_indices(len(ca), 3)
    return int((np.linalg.norm(ca[i] - ca[j], axis=-1) < CLASH).sum())


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
