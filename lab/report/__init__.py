"""From outcomes to tables and plots that a person can judge by."""
