"""Configuration files to copy from: as the programs write them, complete, and with no more than has to be said."""
