"""Fed-SB: one core in the leading directions of a first full update (Singhal et al. 2025, arXiv 2502.15436)."""
