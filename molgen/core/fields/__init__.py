"""Fields: the geometry of one tensor, where a family and a modality meet.

A field has a geometry and a noising process. What else a family asks of it is a capability, see
`molgen.core.capabilities`: for instance every network that produces data predicts the *parameters* of
p(x0 | .) of each field, which are a mean, logits or directions.

Shapes: `B` samples on an extent of sites. Values of site fields are `(B, *extent, C)` reals or `(B,
*extent)` integers, of pair fields `(B, N, N)`. Times are `(B,)`, masks `(B, *extent)`; a value on
padding is zero before and after every verb.
"""

from molgen.core.fields.angles import Angles
from molgen.core.fields.categorical import Categorical
from molgen.core.fields.circular import CircularField
from molgen.core.fields.continuous import Continuous
from molgen.core.fields.field import Field
from molgen.core.fields.gaussian import GaussianField
from molgen.core.fields.positions import Positions
from molgen.core.fields.simplex import Simplex

__all__ = [
    "Angles",
    "Categorical",
    "CircularField",
    "Continuous",
    "Field",
    "GaussianField",
    "Positions",
    "Simplex",
]
