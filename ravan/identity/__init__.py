"""Who is who: keys, certificates and the join string, as coordinator and agents both read them.

A PC has two keys, proved together at enrolment: P-256 for TLS and Ed25519 for secure aggregation.
Its name stands in its certificate and nowhere else. Issuing lives in `coordinator.enrolment`,
keeping in `edge_agent.identity`.
"""
