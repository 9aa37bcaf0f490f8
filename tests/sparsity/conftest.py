"""Puts the helpers of these tests, `reference` and `worlds`, on the path."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))
