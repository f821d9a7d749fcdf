"""mldsa.py CHECKPOINT VKEYS: do both lines of a log verify, for somebody else's Ed25519 and ML-DSA-44 (OpenSSL by way of cryptography)?

Written from the texts of C2SP signed-note and tlog-cosignature; shares nothing with the programs that it judges.
"""

import base64
import hashlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

note = open(sys.argv[1], encoding="utf-8").read()
text, lines = note.rsplit("\n\n", 1)
text += "\n"
origin, size, root = text.splitlines()
seen = {}
for line in lines.splitlines():
    _, name, blob = line.split(" ")
    raw = base64.b64decode(blob, validate=True)
    seen[name, raw[:4].hex()] = raw[4:]

for vkey in open(sys.argv[2], encoding="utf-8").read().split():
    name, key_id, blob = vkey.split("+", 2)
    raw = base64.b64decode(blob, validate=True)
    assert hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id, "the key's id"
    signature = seen.get((name, key_id))
    if signature is None:
        sys.exit(f"no line of {name}+{key_id}")
    try:
        if raw[0] == 1:
            Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature, text.encode())
            print("Ed25519 ok")
        elif raw[0] == 6:
            def opaque(text: str) -> bytes:
                return bytes([len(text)]) + text.encode()

            message = b"subtree/v1\n\0" + opaque(name) + signature[:8] + opaque(origin)
            message += struct.pack(">QQ", 0, int(size)) + base64.b64decode(root, validate=True)
            MLDSA44PublicKey.from_public_bytes(raw[1:]).verify(signature[8:], message)
            print("ML-DSA-44 ok")
        else:
            sys.exit(f"a key of type {raw[0]}")
    except InvalidSignature:
        sys.exit(f"the line of {name}+{key_id} does not verify")
