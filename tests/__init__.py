"""The tests. NumPy's products run on one thread: with more, processes side by side wait for each other's threads."""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # which NumPy reads where it is imported
