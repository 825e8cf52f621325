#!/usr/bin/env python3
"""Checks witness logs, a second time: the hash chain, the canonical form of each line, the tree of
RFC 6962, and the signatures of the offers and answers in it. Shares no code with the Rust program.

    witness.py ENTRIES.jsonl...

Prints a line for each: `ok AGENT ENTRIES ROOT SIGNED`, SIGNED being the offers and answers whose
signature was verified, or `broken LINE: why`; its exit code is 1 if any is broken.
"""

import hashlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ifmessage import Refused, canonical, parse

MEMBERS = {"agent_id", "event", "index", "metadata", "peer_id", "prev_hash", "timestamp", "trace_id"}
SDP_EVENTS = {
    "webrtc_offer_created",
    "webrtc_offer_received",
    "webrtc_answer_created",
    "webrtc_answer_received",
}


class Broken(Exception):
    pass


def leaf_hash(line):
    return hashlib.sha256(b"\x00" + line).digest()


def tree_head(leaves):
    """RFC 6962, section 2.1, as it stands there: split at the greatest power of two below n."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = tree_head(leaves[:split]), tree_head(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def check_sdp(metadata):
    """An offer or answer that was found good: its text, its hash, its signature."""
    frame = metadata["frame"]
    kind = frame["type"]
    sdp = frame[kind]["sdp"]
    if hashlib.sha256(sdp.encode("utf-8")).hexdigest() != metadata["sdp_sha256"]:
        raise Broken("sdp_sha256 is not the hash of the SDP")
    names = ["from", "link", "public_key", "session", "swarm", "to", "to_session", "type"]
    signed = {name: frame[name] for name in names} | {"sdp": sdp}
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(frame["public_key"]))
    try:
        key.verify(bytes.fromhex(frame["signature"]), b"ifswarm/sdp/v1\n" + canonical(signed).encode("utf-8"))
    except InvalidSignature as err:
        raise Broken(f"the signature of the {kind} does not verify") from err


def check(data):
    """The agent, how many entries, the tree head, how many signatures; raises `Broken`."""
    if not data.endswith(b"\n"):
        raise Broken("the last line is torn")
    leaves, agent, signed = [], None, 0
    previous = bytes(32)
    for index, line in enumerate(data[:-1].split(b"\n")):
        try:
            entry = parse(line)
            if canonical(entry).encode("utf-8") != line:
                raise Broken("not canonical")
            if not set(entry) <= MEMBERS:
                raise Broken("an unknown member")
            if entry["index"] != index or entry["prev_hash"] != previous.hex():
                raise Broken("the chain is broken")
            if (entry["event"] == "log_opened") != (index == 0):
                raise Broken("log_opened is the first entry, and no other")
            agent = agent or entry["agent_id"]
            if entry["agent_id"] != agent:
                raise Broken("another agent's entry")
            if entry["event"] in SDP_EVENTS:
                check_sdp(entry["metadata"])
                signed += 1
        except (Broken, Refused, KeyError, TypeError) as err:
            raise Broken(f"{index + 1}: {err}") from err
        previous = leaf_hash(line)
        leaves.append(previous)
    return agent, len(leaves), tree_head(leaves).hex(), signed


def main():
    all_good = True
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            data = file.read()
        try:
            print("ok", *check(data))
        except Broken as broken:
            print("broken", broken)
            all_good = False
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
