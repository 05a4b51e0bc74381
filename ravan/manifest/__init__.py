"""What a round is about, as immutable values: the job plan, the assignment, the roster, the profiles.

Pure data with its checks. `ravan.codec` carries these over the wire; `ravan.secagg` and the
allocators reason about them. A *signed document* is the exact serialised bytes of a plan,
assignment or roster with the coordinator's Ed25519 signature; its digest salts every mask.
"""
