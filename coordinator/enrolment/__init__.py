"""Enrolment: the certificate authority, one-time tokens, and the register of who is who."""
