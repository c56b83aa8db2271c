"""Stage 2: feature sets in; trained heads, predictions and submissions out. Needs neither av nor torchvision."""
