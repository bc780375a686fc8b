"""The Triton backend: for NVIDIA GPUs where no CUDA kernels were compiled, and for AMD's.

``planar.py`` has the kernels for one offset group per channel, ``shared.py`` those for channels that share offsets;
both stand on ``sampling.py``, ``products.py`` and ``packing.py``. ``plan.py`` says how a problem is cut, ``launch.py``
launches.
"""
