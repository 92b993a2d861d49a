"""Mixture of densities in unknown poses; see ``model.PoseMixture``."""

from cryoet_core.pose_mixture.em import Parameters
from cryoet_core.pose_mixture.model import SCHEDULE, PoseMixture, Shard, Stage, State

__all__ = ["SCHEDULE", "Parameters", "PoseMixture", "Shard", "Stage", "State"]
