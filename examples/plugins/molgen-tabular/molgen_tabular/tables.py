"""Tables that need no download: two of scikit-learn."""

from functools import partial

import numpy as np
from sklearn.datasets import load_diabetes, load_wine

from molgen.core.records import Records


def rows(load, gaps=0, **options):
    """The rows of a data set of scikit-learn, with every eleventh cell or so empty if `gaps` is 1."""
    data = load(as_frame=True, **options)
    frame = data.frame
    if "target_names" in data:
        frame = frame.assign(target=[str(data.target_names[k]) for k in data.target])
    frame = frame.astype(object)
    row, column = np.indices(frame.shape)
    return Records(frame.mask((7 * row + 3 * column) % 11 < gaps, None).to_dict("records"))


TABLES = {
    "wine": (partial(rows, load_wine, gaps=1), 178),
    "diabetes": (partial(rows, load_diabetes, scaled=False), 442),
}
