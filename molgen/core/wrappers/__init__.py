"""Wrappers: one trunk as denoiser, encoder, decoder, predictor or conditioner.

One trunk serves as denoiser (values under noise to the parameters of p(x0 | x_t)), encoder or critic
(values to a vector or a number), decoder (a code to densities of all entries), predictor (entries so far to
the density of the next one), and conditioner (half of the reals to the map of the other half).
"""

from molgen.core.wrappers.conditioner import Conditioner
from molgen.core.wrappers.decoder import Decoder
from molgen.core.wrappers.denoiser import Denoiser, self_condition_estimate, with_self_conditioning
from molgen.core.wrappers.encoder import Encoder
from molgen.core.wrappers.order import ORDERS, GenerationOrder
from molgen.core.wrappers.predictor import Predictor
from molgen.core.wrappers.wrapper import SILU_GAIN, LevelEmbedding, MakeTrunk, TrunkWrapper, preserving

__all__ = [
    "ORDERS",
    "SILU_GAIN",
    "Conditioner",
    "Decoder",
    "Denoiser",
    "Encoder",
    "GenerationOrder",
    "LevelEmbedding",
    "MakeTrunk",
    "Predictor",
    "TrunkWrapper",
    "self_condition_estimate",
    "preserving",
    "with_self_conditioning",
]
