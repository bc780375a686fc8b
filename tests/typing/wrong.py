"""Mistakes that mypy must find in a user's file; the comment says which."""

import torch

import deformwarp

x = torch.zeros(1, 2, 4, 4)
layer = deformwarp.FusedDeformWarp(2)

deformwarp.FusedDeformWarp("2")  # arg-type
deformwarp.FusedDeformWarp(2, dilations=1)  # arg-type
deformwarp.FusedDeformWarp(2, kernel=3)  # call-arg
deformwarp.DeformConv2d(2, 2)  # call-arg
deformwarp.fused_deform_warp(x, [[0.0]], x)  # list-item
deformwarp.fused_deform_warp(x, x, x, stride=1.5)  # arg-type
deformwarp.deform_conv2d(x, x, x, padding="same")  # arg-type
layer.forward(x)  # call-arg
layer.offset_channels = 3  # misc
deformwarp.fused_warp(layer)  # attr-defined
