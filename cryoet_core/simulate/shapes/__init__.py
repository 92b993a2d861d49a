"""The structures that are simulated: density maps, models and phantoms."""
