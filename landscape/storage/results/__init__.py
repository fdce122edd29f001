"""Frozen results, each with `save` and `load`."""

from landscape.storage.manifest import read_json, write_json
from landscape.storage.results.maps import Map2D, Persistence
from landscape.storage.results.measurements import Measurements
from landscape.storage.results.record import Result, versions
from landscape.storage.results.slices import BezierPath, Slice1D, Slice2D, SliceBand, Trajectory
from landscape.storage.results.spectra import BlockSpectra, EigenPairs, Estimate, SpectralDensity, standard_error

__all__ = [
    # of an operator
    "BlockSpectra",
    "EigenPairs",
    "Estimate",
    "SpectralDensity",
    "standard_error",
    # of a network
    "Measurements",
    # along lines, planes and paths
    "BezierPath",
    "Map2D",
    "Persistence",
    "Slice1D",
    "Slice2D",
    "SliceBand",
    "Trajectory",
    # what all share
    "Result",
    "read_json",
    "versions",
    "write_json",
]
