"""`make bundle`: everything that a PC without a network needs to become a site, in one folder, summed and signed."""
