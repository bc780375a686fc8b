"""The commands of ``posewarper``, one file each."""
