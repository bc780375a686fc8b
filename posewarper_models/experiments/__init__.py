"""The paper's experiments: what is trained, what is measured, and the document that the results make.

Every experiment is a module with ``measure`` (a run of one seed -> plain data) and ``section`` (results of all seeds ->
Markdown and a figure); :mod:`posewarper_models.experiments.registry` lists them.
"""
