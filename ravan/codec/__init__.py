"""Conversion between wire messages and the values that the rest of the program works with.

Beside the gRPC shells this is the only place that knows both. Every `*_from_wire` and `decode_*`
checks lengths, ranges and closed lists: whatever bytes arrive, they become a sound value or
ProtocolError (MALFORMED) with a sentence.
"""
