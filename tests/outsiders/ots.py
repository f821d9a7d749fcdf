"""Reads an OpenTimestamps file with the library of its makers.

ots.py FILE NOTE   the file is over these bytes; prints what is attested, a line each. A block is believed if its header
                   holds the message as its Merkle root: a header made here does, one with another root does not.
"""

import hashlib
import sys

from bitcoin.core import CBlockHeader
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation, VerificationError
from opentimestamps.core.serialize import StreamDeserializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile


def main():
    with open(sys.argv[1], "rb") as file:
        proof = DetachedTimestampFile.deserialize(StreamDeserializationContext(file))
        assert not file.read(1), "something follows the proof"
    with open(sys.argv[2], "rb") as file:
        assert proof.file_digest == hashlib.sha256(file.read()).digest(), "it is over another file"
    for message, attestation in proof.timestamp.all_attestations():
        if isinstance(attestation, PendingAttestation):
            print(f"pending {attestation.uri}")
        elif isinstance(attestation, BitcoinBlockHeaderAttestation):
            time = attestation.verify_against_blockheader(message, CBlockHeader(hashMerkleRoot=message, nTime=1790000000))
            assert time == 1790000000
            try:
                attestation.verify_against_blockheader(message, CBlockHeader(hashMerkleRoot=bytes(32), nTime=1))
            except VerificationError:
                print(f"block {attestation.height} {message[::-1].hex()}")
            else:
                raise AssertionError("a header with another root is believed")
        else:
            raise AssertionError(f"unknown {attestation}")


main()
