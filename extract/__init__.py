"""Stage 1: videos and annotations in, feature sets out. Needs av and torchvision (the `extract` extra)."""
