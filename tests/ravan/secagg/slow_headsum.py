"""HeadSum v1 a second time, slowly, in plain integers and from the specification alone.

Nothing of `ravan` is imported and nothing of `cryptography`: hashes and HMAC are the standard
library's, curve, cipher and field are written out. Only for comparing with the product's vectors.
"""

from __future__ import annotations

import hashlib
import hmac

P25519 = 2**255 - 19
SHAMIR_PRIME = 2**256 + 297
AES_128_CTR, AES_256_CTR, CHACHA20 = 1, 2, 3
KEY_BYTES = {AES_128_CTR: 16, AES_256_CTR: 32, CHACHA20: 32}


# --- transcript: length-prefixed label, big-endian fixed widths, length-prefixed strings -----------


def blob(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


def short(value: int) -> bytes:
    return value.to_bytes(2, "big")


def listing(values: list[int]) -> bytes:
    return len(values).to_bytes(4, "big") + b"".join(short(v) for v in values)


def info(label: str, *fields: bytes) -> bytes:
    return blob(label.encode()) + b"".join(fields)


# --- HKDF, RFC 5869 -------------------------------------------------------------------------------


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def expand(key: bytes, context: bytes, length: int) -> bytes:
    output, block, counter = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(key, block + context + bytes([counter]), "sha256")
        output += block
        counter += 1
    return output[:length]


# --- X25519, RFC 7748 -----------------------------------------------------------------------------


def x25519(scalar: bytes, point: bytes) -> bytes:
    k = int.from_bytes(scalar, "little")
    k = (k & ~7 & ~(1 << 255)) | (1 << 254)
    x1 = int.from_bytes(point, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b = x2 + z2, x2 - z2
        c, d = x3 + z3, x3 - z3
        da, cb = d * a, c * b
        aa, bb = a * a, b * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % P25519, x1 * (da - cb) ** 2 % P25519
        x2, z2 = aa * bb % P25519, e * (aa + 121665 * e) % P25519
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P25519 - 2, P25519) % P25519).to_bytes(32, "little")


def x25519_public(scalar: bytes) -> bytes:
    return x25519(scalar, (9).to_bytes(32, "little"))


# --- AES, FIPS 197; CTR, SP 800-38A; GCM, SP 800-38D ------------------------------------------------


def _gf_multiply(a: int, b: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11B
        b >>= 1
    return product


def _sbox_entry(value: int) -> int:
    inverse = next((x for x in range(256) if _gf_multiply(value, x) == 1), 0)
    result = 0x63
    for shift in range(5):
        result ^= (inverse << shift | inverse >> (8 - shift)) & 0xFF
    return result


SBOX = [_sbox_entry(value) for value in range(256)]


def _round_keys(key: bytes) -> list[list[int]]:
    count = len(key) // 4
    words = [list(key[4 * i : 4 * i + 4]) for i in range(count)]
    factor = 1
    for i in range(count, 4 * (count + 7)):
        word = list(words[-1])
        if i % count == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= factor
            factor = _gf_multiply(factor, 2)
        elif count > 6 and i % count == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[i - count], word, strict=True)])
    return [[b for word in words[4 * r : 4 * r + 4] for b in word] for r in range(count + 7)]


def _mix_columns(state: list[int]) -> list[int]:
    mixed = []
    for c in range(4):
        column = state[4 * c : 4 * c + 4]
        for r in range(4):
            a, b, d, e = (column[(r + i) % 4] for i in range(4))
            mixed.append(_gf_multiply(a, 2) ^ _gf_multiply(b, 3) ^ d ^ e)
    return mixed


def aes_block(key: bytes, block: bytes) -> bytes:
    first, *middle, last = _round_keys(key)
    state = [a ^ b for a, b in zip(block, first, strict=True)]
    shifted = [(5 * i) % 16 for i in range(16)]
    for round_key in middle:
        state = _mix_columns([SBOX[state[i]] for i in shifted])
        state = [a ^ b for a, b in zip(state, round_key, strict=True)]
    state = [SBOX[state[i]] for i in shifted]
    return bytes(a ^ b for a, b in zip(state, last, strict=True))


def ctr_stream(key: bytes, counter: int, length: int) -> bytes:
    blocks = b"".join(aes_block(key, (counter + i).to_bytes(16, "big")) for i in range(-(-length // 16)))
    return blocks[:length]


# --- ChaCha20, RFC 8439 -----------------------------------------------------------------------------


def _quarter(state: list[int], a: int, b: int, c: int, d: int) -> None:
    for x, y, z, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[x] = (state[x] + state[y]) % 2**32
        mixed = state[z] ^ state[x]
        state[z] = (mixed << turn | mixed >> (32 - turn)) % 2**32


def chacha20_block(key: bytes, counter: int, nonce: bytes) -> bytes:
    raw = b"expand 32-byte k" + key + counter.to_bytes(4, "little") + nonce
    first = [int.from_bytes(raw[i : i + 4], "little") for i in range(0, 64, 4)]
    state = list(first)
    for _ in range(10):
        for i in range(4):
            _quarter(state, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            _quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return b"".join(((s + f) % 2**32).to_bytes(4, "little") for s, f in zip(state, first, strict=True))


def keystream_words(key: bytes, count: int, suite: int = AES_128_CTR) -> list[int]:
    if suite == CHACHA20:
        stream = b"".join(chacha20_block(key, block, bytes(12)) for block in range(-(-count // 16)))
    else:
        stream = ctr_stream(key, 0, 4 * count)
    return [int.from_bytes(stream[i : i + 4], "little") for i in range(0, 4 * count, 4)]


def _ghash_multiply(x: int, y: int) -> int:
    product, v = 0, y
    for bit in range(128):
        if x >> (127 - bit) & 1:
            product ^= v
        v = (v >> 1) ^ (0xE1 << 120 if v & 1 else 0)
    return product


def gcm_seal(key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
    start = int.from_bytes(nonce + b"\0\0\0\1", "big")
    stream = ctr_stream(key, start + 1, len(plain))
    sealed = bytes(a ^ b for a, b in zip(plain, stream, strict=True))
    padded = bound + bytes(-len(bound) % 16) + sealed + bytes(-len(sealed) % 16)
    padded += (8 * len(bound)).to_bytes(8, "big") + (8 * len(sealed)).to_bytes(8, "big")
    h, tag = int.from_bytes(aes_block(key, bytes(16)), "big"), 0
    for i in range(0, len(padded), 16):
        tag = _ghash_multiply(tag ^ int.from_bytes(padded[i : i + 16], "big"), h)
    mask = aes_block(key, start.to_bytes(16, "big"))
    return sealed + (tag ^ int.from_bytes(mask, "big")).to_bytes(16, "big")


# --- Shamir: ascending coefficients; solving by elimination instead of Lagrange ----------------------


def shamir_shares(secret: bytes, coefficients: list[int], points: list[int]) -> list[bytes]:
    terms = [int.from_bytes(secret, "big"), *coefficients]
    values = [sum(c * x**power for power, c in enumerate(terms)) % SHAMIR_PRIME for x in points]
    return [value.to_bytes(33, "big") for value in values]


def shamir_solve(points: list[int], shares: list[bytes]) -> bytes:
    n = len(points)
    rows = [
        [pow(x, power, SHAMIR_PRIME) for power in range(n)] + [int.from_bytes(share, "big")]
        for x, share in zip(points, shares, strict=True)
    ]
    for column in range(n):
        pivot = next(r for r in range(column, n) if rows[r][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        inverse = pow(rows[column][column], -1, SHAMIR_PRIME)
        rows[column] = [value * inverse % SHAMIR_PRIME for value in rows[column]]
        for r in range(n):
            if r != column:
                factor = rows[r][column]
                rows[r] = [(a - factor * b) % SHAMIR_PRIME for a, b in zip(rows[r], rows[column], strict=True)]
    return rows[0][n].to_bytes(32, "big")


# --- the protocol -----------------------------------------------------------------------------------


def document_digest(kind: str, payload: bytes) -> bytes:
    return hashlib.sha256(info(f"ravan/v1/document/{kind}", blob(payload))).digest()


def mask_set_digest(assignment: bytes, roster: bytes, members: list[int]) -> bytes:
    return hashlib.sha256(info("ravan/secagg/v1/mask-set", blob(assignment), blob(roster), listing(members))).digest()


def survivor_digest(mask_set: bytes, survivors: list[int], bundles: list[int]) -> bytes:
    return hashlib.sha256(
        info("ravan/secagg/v1/survivors", blob(mask_set), listing(survivors), listing(bundles))
    ).digest()


def salt(assignment: bytes, roster: bytes) -> bytes:
    return info("ravan/secagg/v1/salt", blob(assignment), blob(roster))


class SlowMember:
    """One member's secrets, from its root."""

    def __init__(self, index: int, root: bytes) -> None:
        self.index = index
        self._root = root
        self.mask_seed = self._from_root("mask-seed")
        self.mask_secret = expand(self.mask_seed, info("ravan/secagg/v1/dh"), 32)
        self.channel_secret = expand(self._from_root("channel-seed"), info("ravan/secagg/v1/dh"), 32)
        self.mask_key = x25519_public(self.mask_secret)
        self.channel_key = x25519_public(self.channel_secret)

    def _from_root(self, label: str, *fields: bytes, length: int = 32) -> bytes:
        return expand(self._root, info(f"ravan/secagg/v1/root/{label}", *fields), length)

    def self_seed(self, bundle: int) -> bytes:
        return self._from_root("self-seed", short(bundle))

    def _coefficients(self, label: str, *fields: bytes, threshold: int) -> list[int]:
        raw = self._from_root(f"shamir/{label}", *fields, length=48 * (threshold - 1))
        return [int.from_bytes(raw[i : i + 48], "big") % SHAMIR_PRIME for i in range(0, len(raw), 48)]

    def shares(self, holders: list[int], threshold: int, bundles: list[int]) -> dict[int, bytes]:
        """Return to each holder the seed share and the self shares, joined in bundle order."""
        points = [holder + 1 for holder in holders]
        dealt = [shamir_shares(self.mask_seed, self._coefficients("seed", threshold=threshold), points)]
        for bundle in bundles:
            coefficients = self._coefficients("self", short(bundle), threshold=threshold)
            dealt.append(shamir_shares(self.self_seed(bundle), coefficients, points))
        return {holder: b"".join(column[i] for column in dealt) for i, holder in enumerate(holders)}

    def sealed(self, receiver: int, channel_key: bytes, documents: bytes, plain: bytes) -> bytes:
        pair = extract(documents, x25519(self.channel_secret, channel_key))
        low, high = sorted((self.index, receiver))
        key = expand(pair, info("ravan/secagg/v1/channel", short(low), short(high)), 32)
        nonce = bytes(8) + short(self.index) + short(receiver)
        bound = info("ravan/secagg/v1/seal", blob(documents), short(self.index), short(receiver))
        return b"\x01" + gcm_seal(key, nonce, plain, bound)

    def masked(
        self,
        bundle: int,
        vector: list[int],
        partners: dict[int, bytes],
        documents: bytes,
        mask_set: bytes,
        *,
        suite: int = AES_128_CTR,
        ring_bits: int = 24,
    ) -> list[int]:
        """Return the masked vector modulo the ring; `partners` are the mask keys of the others in U2."""
        size = KEY_BYTES[suite]
        own = info("ravan/secagg/v1/self", bytes([suite]), short(bundle), short(self.index))
        words = keystream_words(expand(self.self_seed(bundle), own, size), len(vector), suite)
        total = [x + m for x, m in zip(vector, words, strict=True)]
        for partner, mask_key in partners.items():
            pair = extract(documents, x25519(self.mask_secret, mask_key))
            low, high = sorted((self.index, partner))
            context = info(
                "ravan/secagg/v1/pair", bytes([suite]), short(bundle), blob(mask_set), short(low), short(high)
            )
            words = keystream_words(expand(pair, context, size), len(vector), suite)
            sign = 1 if partner > self.index else -1
            total = [t + sign * w for t, w in zip(total, words, strict=True)]
        return [t % 2**ring_bits for t in total]


def packed(elements: list[int], ring_bits: int = 24) -> bytes:
    """Return one page: whole elements, or with 24 bits all low halves, then all high bytes."""
    if ring_bits != 24:
        return b"".join(e.to_bytes(ring_bits // 8, "little") for e in elements)
    low = b"".join((e & 0xFFFF).to_bytes(2, "little") for e in elements)
    return low + bytes(e >> 16 for e in elements)
