"""Training: heatmaps of single frames (stage 1), warping (stage 2), cycle consistency."""
