"""Command lines around training and inference: data, merging, conversion of model files."""
