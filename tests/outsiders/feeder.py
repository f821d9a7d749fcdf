"""Feeds checkpoints of a log of its own to a witness with somebody else's client (PyPI aics-witness).

usage: feeder.py URL WITNESS_VKEY SEED_HEX ORIGIN
Exit status 0: growth was cosigned, a repeat too, and a fork was refused with 422.
"""

import sys

from aics_tlog import Checkpoint, MerkleTree, parse_note, sign_checkpoint
from aics_witness.feeder import WitnessClient, WitnessRejected
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

url, vkey, seed, origin = sys.argv[1:]
key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))


def note(tree):
    return sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), key, origin).serialise()


tree = MerkleTree([b"%d" % n for n in range(10)])
with WitnessClient(url, vkey) as client:
    for more in (0, 1, 300, 4000):
        for n in range(more):
            tree.append(b"more %d" % (tree.size + n))
        line = client.submit(note(tree), tree.consistency_proof)
        assert line.startswith("\u2014 "), line
    assert client.submit(note(tree), tree.consistency_proof)
    size = tree.size
    fork = MerkleTree([tree.leaf_data(n) if n != 7 else b"forged" for n in range(size)])
    for n in range(5):
        fork.append(b"fork %d" % n)
    try:
        client.submit(note(fork), fork.consistency_proof)
    except WitnessRejected as refused:
        assert refused.status == 422, refused
    else:
        sys.exit("a fork was cosigned")
with WitnessClient(url, vkey) as stranger:
    # A client that knows nothing is told where the witness stands, and goes on from there.
    tree.append(b"last")
    assert stranger.submit(note(tree), tree.consistency_proof)
    stranger.max_conflicts = 0
print("cosigned", tree.size)
