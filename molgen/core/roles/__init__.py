"""Roles: what a trunk becomes once the core adds what it reads and what it says.

One trunk serves as denoiser (values under noise to the parameters of p(x0 | x_t)), encoder or critic
(values to a vector or a number), decoder (a code to densities of all entries), predictor (entries so far to
the density of the next one), and conditioner (half of the reals to the map of the other half).
"""

from molgen.core.roles.conditioner import Conditioner
from molgen.core.roles.decoder import Decoder
from molgen.core.roles.denoiser import Denoiser, earlier, recalling
from molgen.core.roles.encoder import Encoder
from molgen.core.roles.layout import ORDERS, Layout
from molgen.core.roles.predictor import Predictor
from molgen.core.roles.role import SILU_GAIN, LevelEmbedding, MakeTrunk, Role, preserving

__all__ = [
    "ORDERS",
    "SILU_GAIN",
    "Conditioner",
    "Decoder",
    "Denoiser",
    "Encoder",
    "Layout",
    "LevelEmbedding",
    "MakeTrunk",
    "Predictor",
    "Role",
    "earlier",
    "preserving",
    "recalling",
]
