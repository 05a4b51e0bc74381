"""The edge agent: trains on a factory PC, on data that never leaves it."""

import os

# Read when numpy is loaded, so it stands here, before anything else is imported. Threads of OpenBLAS spin against each
# other on a busy machine: drawing one basis took 15 CPU seconds with two of them, and 0.75 with one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
