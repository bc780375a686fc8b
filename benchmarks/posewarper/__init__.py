"""The whole PoseWarper with the fused layer and with torchvision's five calls: the same numbers first, then times."""
