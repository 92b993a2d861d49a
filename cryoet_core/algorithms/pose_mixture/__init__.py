"""Mixture of densities in unknown poses; see ``model.PoseMixture``."""

from cryoet_core.algorithms.pose_mixture.em import Parameters
from cryoet_core.algorithms.pose_mixture.model import PoseMixture
from cryoet_core.algorithms.pose_mixture.state import (
    SCHEDULE,
    ParticleShard,
    RefinementStage,
    State,
)

__all__ = ["SCHEDULE", "Parameters", "ParticleShard", "PoseMixture", "RefinementStage", "State"]
