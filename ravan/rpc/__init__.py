"""gRPC as both sides use it: credentials, servers, channels, the guard in front of every handler, errors.

House rule: a server-streaming handler is an async generator, never a coroutine that writes to its
context; the guard closes it when the client goes, so its `finally` runs at once.
"""
