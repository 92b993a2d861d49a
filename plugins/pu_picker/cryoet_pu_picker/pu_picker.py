"""PU picker: particle centres in tomograms from a few labels (Huang et al., ECCV 2022; paper 004).

A heat map of centres is learnt from labelled and unlabelled voxels with a non-negative
positive-unlabelled risk, in the preset of the paper its features are shaped by debiased contrast
between voxels, and its peaks are the picks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cryoet_core.plugins.interfaces import InputSpec, Trainer
from cryoet_core.runs.run import Run
from cryoet_pu_picker import picker as models
from cryoet_pu_picker.config import PUPickerConfig
from cryoet_pu_picker.crops import Sampler
from cryoet_pu_picker.network import STRIDE
from cryoet_pu_picker.picker import PUPicker, bands_of, build
from cryoet_pu_picker.prior import Priors
from cryoet_pu_picker.promotion import likely, promoted
from cryoet_pu_picker.scenes import network_voxel_size, scenes_of
from cryoet_pu_picker.species import species_of
from cryoet_pu_picker.targets import REACH
from cryoet_pu_picker.training import remember, sigmas_of, train


class PUPickerTrainer(Trainer):
    name, task = "pu_picker", "picking"
    summary = (
        "particle centres from a few labels: positive-unlabelled learning on a linear filter "
        "and a small network"
    )
    inputs: ClassVar = {
        "data": InputSpec(
            "tomograms, some of their particles labelled", kind="tomograms", labels="required"
        )
    }
    Config = PUPickerConfig
    tiny: ClassVar = {
        "diameter": "100",
        "width": 4,
        "levels": 2,
        "features": 8,
        "iterations": 60,
        "crop": 24,
        "crop_depth": 5,
    }

    def fit(self, inputs: Mapping[str, Any], run: Run) -> PUPicker:
        finished = models.load(run)
        if finished is not None:
            return finished
        data, config = inputs["data"], self.config
        species = species_of(config.diameter, data.picks)
        voxel_size = network_voxel_size(config, species, data)
        scenes = scenes_of(data, species, voxel_size, run)
        diameters = [kind.diameter for kind in species]
        sigmas = sigmas_of(diameters, voxel_size, config.target_width)
        priors = Priors(species, scenes, sigmas, config)
        reach = (REACH * sigmas.amax(0)).numpy() * STRIDE + STRIDE
        bands = bands_of(config, species, voxel_size)
        bands.measure(scenes[0].middle())
        with run.timer("promote"):
            found = likely(scenes, species, bands, config.spacing, run)
        priors.expect(found.copies, run)
        run.reseed("network")
        network = build(config, bands, priors.prior.share)
        # the ablation takes everything without a label for background, so it may not take some of
        # it for particles
        share = 0.0 if config.variant == "no-pu" else config.promote
        labelled = promoted(scenes, species, priors, found, share, run)
        if config.blob_prior:
            network.trust(found.filters)
        sampler = Sampler(labelled, config, reach.tolist(), bands)
        with run.timer("train"):
            train(network.to(run.device), sampler, sigmas, priors, config, run)
        if network.likeness is not None:
            remember(network, labelled, sampler, run)
        expected = [0.0] * len(species)
        if config.threshold != "auto":
            thresholds = [config.threshold] * len(species)
        else:
            thresholds = priors.thresholds(network, config, run)
            if config.prior == "auto" and not priors.counted:
                expected = [copies / priors.volume for copies in priors.copies]
        trained = PUPicker(
            network,
            species,
            voxel_size,
            tuple(priors.copies),
            tuple(expected),
            tuple(thresholds),
            config,
        )
        models.save(trained, run)
        return self.load(run)

    def load(self, run: Run) -> PUPicker:
        return models.load(run)  # type: ignore[return-value]
