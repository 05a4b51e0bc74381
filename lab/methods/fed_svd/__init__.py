"""FedSVD: A is taken anew from the SVD of the mean product in every round (Lee et al. 2025, arXiv 2505.12805)."""
