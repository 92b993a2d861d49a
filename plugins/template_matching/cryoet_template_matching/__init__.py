"""The plugin ``template_matching``: locally normalised correlation with a known structure over all
rotations.
"""

from cryoet_core import hookimpl


@hookimpl
def cryoet_trainers():  # type: ignore[no-untyped-def]
    from cryoet_template_matching.template_matching import TemplateMatchingTrainer

    return [TemplateMatchingTrainer]
