"""`python -m coordinator` is `ravan-coordinator`."""

from coordinator.cli import main

main()
