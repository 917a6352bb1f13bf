"""Training: data by step, the Lightning module, its checkpoints, and exact resume."""

from molgen.train.data import DataModule, Loader
from molgen.train.module import TrainingModule
from molgen.train.resume import SafeCheckpointIO
from molgen.train.run import parse_time, run

__all__ = ["DataModule", "Loader", "SafeCheckpointIO", "TrainingModule", "parse_time", "run"]
