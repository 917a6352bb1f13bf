"""`gdb6`, the embedded data set: small organic molecules, enumerated by code.

All connected graphs of up to six atoms of C, N, O and F that obey the valences 4, 3, 2 and 1, grown from
one atom by two
moves: hang on an atom by a single bond, and raise the order of a bond or close a ring. Then rules of
stability take out what no chemist would keep, in the spirit of the GDB databases. Neutral, no
stereochemistry; aromaticity is RDKit's.

Source: Ruddigkeit et al., Enumeration of 166 Billion Organic Small Molecules in GDB-17, J. Chem. Inf.
Model. 52, 2864 (2012), for the idea and the kind of rules.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rdkit import Chem, rdBase
from rdkit.Chem import Mol

_VALENCE = {6: 4, 7: 3, 8: 2, 9: 1}
_ORDERS = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
_HETERO = frozenset((7, 8, 9))

_UNSTABLE = {
    "cumulated double bonds": "[*]=[*]=[*]",
    "triple bond in a ring": "[R]#[R]",
    "double bond in a ring of three": "[r3]=,:;@[r3]",
    "antiaromatic or strained ring of four": "[r4]=,:;@[r4]",
    "double bond at a bridgehead": "[x3]=[*]",
    "double bond out of a ring of three, next to another": "[r3;!$([r3]=O)]=[*]",
    "enol or enamine": "[CX3;!a]=[CX3;!a][OX2H,NX3;!H0;!$(NC=[O,N])]",
    "ynol or ynamine": "C#C[OX2,NX3,F]",
    "OH or NH beside a heteroatom on saturated carbon": "[CX4]([OX2H,NX3H2,NX3H1])[OX2,NX3,F]",
    "fluorine beside a heteroatom on carbon": "[CX4](F)[OX2,NX3]",
    "acyl fluoride or imidoyl fluoride": "[CX3](=[O,N])F",
    "hydroxyl imine form of an amide": "[OX2H][CX3]=[NX2]",
    "acid of carbon with three heteroatoms and a free OH": "[OX2H]C(=O)[O,N,F]",
    "primary or secondary imine": "[CX3;!$(C[N,O])]=[NX2H]",
    "N-N or N-O but in aromatic rings, oximes, hydrazones": "[#7;!a;!$(N=C)]-[N,O;!$(*N=C);!$(*-N=C)]",
    "peroxide": "[OX2][OX2]",
    "azo": "[#7;!a]=[#7;!a]",
    "nitroso": "N=O",
    "nitrogen or oxygen next to a nitrile": "N#C[NX3,OX2,F,$(C#N),$(C=O),$(C=N)]",
}


def enumerate_molecules(atoms: int = 6) -> list[str]:
    """Canonical SMILES of all stable molecules of up to so many atoms, sorted by size, then by string.

    Arguments:
        atoms: largest number of heavy atoms, 1 to 6; six take ten seconds.

    Example:
        >>> enumerate_molecules(2)
        ['C', 'N', 'O', 'C#C', 'C#N', 'C=C', 'C=O', 'CC', 'CF', 'CN', 'CO', 'N#N']
    """
    with rdBase.BlockLogs():
        trees = {Chem.MolToSmiles(_atom(z)) for z in (6, 7, 8)}
        kept: list[str] = []
        for size in range(1, atoms + 1):
            graphs = _closed(trees)
            stable = {s for s in map(_canonical_if_stable, graphs) if s}
            kept += sorted(stable)
            if size < atoms:
                trees = {s for tree in trees for s in _grown(tree)}
    return kept


def _atom(z: int) -> Mol:
    mol = Chem.RWMol()
    mol.AddAtom(Chem.Atom(z))
    return _finished(mol)


def _grown(tree: str) -> Iterable[str]:
    """The trees with one more atom."""
    mol = Chem.MolFromSmiles(tree)
    for atom in mol.GetAtoms():
        for z in _VALENCE:
            if atom.GetTotalNumHs() and not _forbidden(atom.GetAtomicNum(), z):
                bigger = Chem.RWMol(mol)
                bigger.AddBond(atom.GetIdx(), bigger.AddAtom(Chem.Atom(z)), _ORDERS[1])
                yield Chem.MolToSmiles(_finished(bigger))


def _closed(trees: Iterable[str]) -> set[str]:
    """All graphs that raising bond orders and closing rings makes of these, as kekulised SMILES."""
    seen = set(trees)
    todo = list(seen)
    while todo:
        mol = Chem.MolFromSmiles(todo.pop(), sanitize=False)
        mol.UpdatePropertyCache()
        free = [a.GetTotalNumHs() for a in mol.GetAtoms()]
        for i in range(len(free)):
            for j in range(i):
                smiles = _raised(mol, i, j) if free[i] and free[j] else None
                if smiles and smiles not in seen:
                    seen.add(smiles)
                    todo.append(smiles)
    return seen


def _raised(mol: Mol, i: int, j: int) -> str | None:
    """The molecule with one bond more between two atoms, where that is allowed."""
    bond = mol.GetBondBetweenAtoms(i, j)
    order = 1 if bond is None else int(bond.GetBondTypeAsDouble()) + 1
    z = [mol.GetAtomWithIdx(k).GetAtomicNum() for k in (i, j)]
    if order > 3 or (bond is None and _forbidden(*z)):
        return None
    raised = Chem.RWMol(mol)
    if bond is None:
        raised.AddBond(i, j, _ORDERS[1])
    else:
        raised.GetBondBetweenAtoms(i, j).SetBondType(_ORDERS[order])
    return str(Chem.MolToSmiles(_finished(raised)))


def _finished(mol: Chem.RWMol) -> Mol:
    out = mol.GetMol()
    out.UpdatePropertyCache()
    return out


def _forbidden(a: int, b: int) -> bool:
    """Bonds that no kept molecule has: O-O, and fluorine to anything but carbon."""
    return (9 in (a, b) and _HETERO >= {a, b}) or (a == b == 8)


@lru_cache(maxsize=1)
def _patterns() -> list[Mol]:
    return [Chem.MolFromSmarts(smarts) for smarts in _UNSTABLE.values()]


def _canonical_if_stable(smiles: str) -> str | None:
    mol = Chem.MolFromSmiles(smiles)
    if mol is None or any(mol.HasSubstructMatch(p) for p in _patterns()):
        return None
    hetero = sum(
        b.GetBeginAtom().GetAtomicNum() in _HETERO and b.GetEndAtom().GetAtomicNum() in _HETERO
        for b in mol.GetBonds()
    )
    aromatic = any(a.GetIsAromatic() for a in mol.GetAtoms())
    if hetero > (3 if aromatic else 1) or sum(r < 5 for r in map(len, mol.GetRingInfo().AtomRings())) > 2:
        return None
    return str(Chem.MolToSmiles(mol))
