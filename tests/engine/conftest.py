"""Fixtures: a Ray cluster of two nodes."""

from tests.engine.nodes import cluster as cluster
from tests.engine.nodes import environment as environment
