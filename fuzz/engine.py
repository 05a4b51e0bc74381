"""The process that fuzzes one target: `python -m fuzz.engine TARGET ARGUMENTS-OF-LIBFUZZER`."""

from __future__ import annotations

import random
import sys

import atheris

# Only what is imported in here, for the first time, tells the fuzzer which of its branches an input took.
with atheris.instrument_imports(include=["ravan", "coordinator", "tomllib"]):
    from fuzz.mutation import mutate_serialised
    from fuzz.target import Target
    from fuzz.targets import TARGETS


def main() -> None:
    """Run libFuzzer until its arguments end it, or something is found."""
    _, name, *arguments = sys.argv
    target = TARGETS[name]
    again = f"{sys.executable} -m fuzz.engine {name}"  # libFuzzer gives it to a shell, in order to minimise

    def try_one(data: bytes) -> None:
        target.accepts(data)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        return _mutate(target, data, max_size, random.Random(seed))  # noqa: S311 - no secret

    structured = any(chosen.message for chosen in target.formats)
    atheris.Setup([again, *arguments], try_one, **({"custom_mutator": mutate} if structured else {}))
    atheris.Fuzz()


def _mutate(target: Target, data: bytes, max_size: int, chance: random.Random) -> bytes:
    """Change an input: every other time by one field, where it is a message."""
    message = target.format_of(data).message
    if message is None or chance.random() < 0.5:
        return _shake(data, max_size)
    return data[:1] + mutate_serialised(message, data[1:], chance, lambda raw: _shake(raw, len(raw) + 16))


def _shake(data: bytes, max_size: int) -> bytes:
    shaken: bytes = atheris.Mutate(data, max_size)
    return shaken


if __name__ == "__main__":
    main()
