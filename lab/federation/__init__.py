"""Who has which examples, who can train how much, and who trains when: the same for every method."""
