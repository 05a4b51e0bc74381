"""The accuracy laboratory: Ravan and its rivals on the same clients, the same batches and the same bytes."""

import os

# Read when numpy is loaded. One run takes one core, and threads of OpenBLAS spin against those of the other runs.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
