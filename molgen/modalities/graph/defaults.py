"""What `GraphModality.fit_to` finds in the training split of QM9: the defaults of its constructor."""

KINDS = ("C", "O", "N", "F", "N+", "O-", "C-", "N-")
"""Kinds of atoms."""

ATOM_MARGINAL = [0.72251, 0.15905, 0.11481, 0.0026411, 0.00050139, 0.00035472, 8.1859e-05, 6.4805e-05]
"""Frequency of each kind."""

BOND_MARGINAL = [0.72639, 0.23481, 0.030699, 0.008093]
"""Frequency of no, single, double and triple bonds among pairs of atoms."""

SIZES = {1: 2, 2: 5, 3: 7, 4: 25, 5: 91, 6: 475, 7: 2404, 8: 13625, 9: 83366}
"""Number of molecules of each number of heavy atoms."""

SCALES = {
    "logp": (0.332288, 0.956908),
    "qed": (0.465891, 0.0732369),
    "tpsa": (36.0946, 21.0049),
    "weight": (122.719, 7.77834),
    "homo": (-0.243474, 0.0193086),
    "lumo": (0.0148018, 0.0466087),
    "gap": (0.258275, 0.0462957),
    "mu": (2.65241, 1.48482),
    "alpha": (75.2383, 8.27549),
    "cv": (31.6453, 4.08899),
}
"""Mean and standard deviation of the properties."""
