"""Annotated clips: reading, synthesis, person crops and the data sets of training."""
