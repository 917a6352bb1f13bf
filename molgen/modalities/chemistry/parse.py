"""Between strings and molecules: parsing that says what is wrong, and one canonical form.

The canonical form is RDKit's canonical SMILES of the molecule without stereochemistry, isotopes, atom maps
and explicit
hydrogens: the molecule as a graph of heavy atoms with charges, which is what the models of strings and
graphs learn.
"""

from __future__ import annotations

from rdkit import Chem, rdBase
from rdkit.Chem import Mol

from molgen.core.errors import DataError


def parse(smiles: str) -> Mol:
    """The sanitised molecule of a SMILES; `DataError` with RDKit's reason if there is none.

    Example:
        >>> parse("OCC").GetNumAtoms()
        3
        >>> parse("C1CC")
        Traceback (most recent call last):
        molgen.core.errors.DataError: malformed SMILES 'C1CC': unclosed ring; correct or remove it
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None or mol.GetNumAtoms() == 0:
        raise DataError(f"malformed SMILES {_short(smiles)!r}: {_reason(smiles)}", fix="correct or remove it")
    return mol


def sanitised(record: Mol | str) -> Mol | None:
    """A sanitised copy of a molecule or a SMILES; None where RDKit refuses, or where there is no atom.

    Example:
        >>> sanitised("C(C)(C)(C)(C)C") is None, sanitised("c1ccccc1").GetNumAtoms()
        (True, 6)
    """
    with rdBase.BlockLogs():
        if isinstance(record, str):
            mol = Chem.MolFromSmiles(record)
        else:
            mol = Mol(record)
            try:
                Chem.SanitizeMol(mol)
            except (ValueError, RuntimeError):
                return None
    return mol if mol is not None and mol.GetNumAtoms() else None


def unsanitised(smiles: str) -> Mol:
    """The molecule of a string: sanitised where RDKit agrees, else as it stands, without atoms if it is not
    SMILES.

    Example:
        >>> unsanitised("CC(C)(C)(C)C").GetNumAtoms(), unsanitised("C(").GetNumAtoms()
        (6, 0)
    """
    clean = sanitised(smiles)
    if clean is not None:
        return clean
    params = Chem.SmilesParserParams()
    params.sanitize = False  # type: ignore[assignment]
    params.removeHs = False  # type: ignore[assignment]
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles, params)
        if mol is None:
            return Mol()
        mol.UpdatePropertyCache(strict=False)
    return mol


def flat(mol: Mol) -> Mol:
    """A copy without stereochemistry, isotopes, atom maps and explicit hydrogens.

    Arguments:
        mol: a sanitised molecule; not changed.

    Example:
        >>> Chem.MolToSmiles(flat(Chem.MolFromSmiles("[2H][C@H](F)Cl")))
        'FCCl'
    """
    with rdBase.BlockLogs():
        mol = Mol(mol)
        Chem.RemoveStereochemistry(mol)
        hydrogens = False
        for atom in mol.GetAtoms():
            if atom.GetIsotope():
                atom.SetIsotope(0)
            if atom.GetAtomMapNum():
                atom.SetAtomMapNum(0)
            hydrogens |= atom.GetAtomicNum() == 1
        return Chem.RemoveHs(mol) if hydrogens else mol


def canonical(record: Mol | str) -> str:
    """The canonical SMILES of a molecule as a graph of heavy atoms; `DataError` if it has none.

    Example:
        >>> canonical("C([C@H](O)F)"), canonical("N1C=CC=C1")
        ('CC(O)F', 'c1cc[nH]c1')
    """
    if isinstance(record, str):
        return str(Chem.MolToSmiles(flat(parse(record))))
    mol = sanitised(record)
    if mol is None:
        raise DataError(
            f"a molecule that RDKit does not sanitise: {text(record)}", fix="correct or remove it"
        )
    return str(Chem.MolToSmiles(flat(mol)))


def text(record: Mol | str) -> str:
    """The record as a line of text, valid or not: the string itself, or the SMILES of the molecule as it
    stands.

    Example:
        >>> text(Chem.MolFromSmiles("FC(F)(F)(F)F", sanitize=False))
        'FC(F)(F)(F)F'
    """
    if isinstance(record, str):
        return record
    with rdBase.BlockLogs():
        mol = Mol(record)
        mol.UpdatePropertyCache(strict=False)
        return str(Chem.MolToSmiles(mol))


def _reason(smiles: str) -> str:
    """RDKit's own words on a SMILES that it does not parse, made short."""
    if not smiles.strip():
        return "empty"
    params = Chem.SmilesParserParams()
    params.sanitize = False  # type: ignore[assignment]
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles, params)
        if mol is not None:
            problems = Chem.DetectChemistryProblems(mol)
            if problems:
                return "; ".join(str(p.Message()).strip() for p in problems[:2])
    if smiles.count("(") != smiles.count(")"):
        return "unbalanced parentheses"
    if smiles.count("[") != smiles.count("]"):
        return "unbalanced brackets"
    rings = {c for c in _outside_brackets(smiles) if c.isdigit()}
    if any(_outside_brackets(smiles).count(c) % 2 for c in rings):
        return "unclosed ring"
    return "not SMILES"


def _outside_brackets(smiles: str) -> str:
    depth, kept = 0, []
    for c in smiles:
        depth += (c == "[") - (c == "]")
        if depth == 0:
            kept.append(c)
    return "".join(kept)


def _short(smiles: str) -> str:
    return smiles if len(smiles) <= 80 else smiles[:77] + "..."
