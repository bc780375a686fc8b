"""What the compiler made of the CUDA kernels, and what follows from it, without a GPU.

``python -m benchmarks.cuda_figures`` writes the table that tests/test_cuda_figures.py holds the kernels to.
"""
