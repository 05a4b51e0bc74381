"""What is run: plans of studies, their cells, and the outcomes that are kept."""
