"""Full fine-tuning: every parameter is trained and averaged (McMahan et al. 2017, arXiv 1602.05629)."""
