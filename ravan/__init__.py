"""What coordinator and agent share: adapters, secure aggregation, manifests, wire codec and RPC plumbing."""
