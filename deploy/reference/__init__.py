"""The configuration reference, written from the models of the files and from the samples that the programs write."""
