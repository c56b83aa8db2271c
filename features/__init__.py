"""The contract between the stages: annotations, the feature set on disk, predictions.

Needs numpy, pandas, h5py and torch; never av, torchvision or transformers, so that a Mac that only trains
heads need not have them.
"""

__version__ = "0.1.0"
