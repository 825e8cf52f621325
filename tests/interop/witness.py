#!/usr/bin/env python3
"""Checks witness logs, a second time: the hash chain, the canonical form of each line, the tree of
RFC 6962, and the signatures of the offers and answers in it. And what is signed of a log: its
checkpoints and cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature), inclusion proofs,
exports. Shares no code with the Rust program.

    witness.py [--key NAME=HEX]... FILE...

NAME is the name of a key in checkpoints, `ifswarm-log/SWARM/AGENT`. Prints a line for each file:

    ok AGENT ENTRIES ROOT SIGNED                     a log; SIGNED offers and answers were verified
    ok checkpoint NAME SIZE ROOT COSIGNERS           signed by the key given for NAME
    ok proof NAME INDEX SIZE ROOT COSIGNERS          signed by the key in it, which is the one given if any is
    ok export NAME ENTRIES ROOT COVERED COSIGNERS    signed by the key of its log; COVERED by the newest checkpoint
    broken LINE: why

COSIGNERS are the names of the keys whose cosignature was verified, `-` if there are none: keys that
were given, or stand in the roster of an export. The exit code is 1 if any file is broken.
"""

import base64
import binascii
import hashlib
import json
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


def decode(text):
    """Standard base64 with its padding, and nothing else."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise Broken(f"not base64: {err}") from err
    if base64.b64encode(data).decode() != text:
        raise Broken("not the one base64 of these bytes")
    return data


def key_id(name, kind, key):
    """C2SP signed-note: the first four bytes of SHA-256(name, newline, type, key)."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:4]


def verifies(key, signature, message):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def read_note(note):
    """C2SP signed-note: the text, and the signature lines as (name, key id, signature)."""
    if any(ord(c) < 0x20 and c != "\n" for c in note):
        raise Broken("a control character in a note")
    text, empty, lines = note.rpartition("\n\n")
    if not empty or not lines.endswith("\n"):
        raise Broken("no signed note")
    signatures = []
    for line in lines[:-1].split("\n"):
        dash, name, signature = (line.split(" ") + ["", "", ""])[:3]
        if dash != "\u2014" or line.count(" ") != 2 or not name or "+" in name:
            raise Broken("no signature line")
        data = decode(signature)
        signatures.append((name, data[:4], data[4:]))
    return text + "\n", signatures


def read_checkpoint(note, keys):
    """C2SP tlog-checkpoint and tlog-cosignature: name, size, root, and who has cosigned it.

    The first line names the log and its key; its Ed25519 signature (type 1) must be there."""
    text, signatures = read_note(note)
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] != "":
        raise Broken("no checkpoint of three lines")
    name, size, root = lines[0], lines[1], decode(lines[2])
    if not size.isascii() or not size.isdigit() or str(int(size)) != size or len(root) != 32:
        raise Broken("no checkpoint")
    if name not in keys:
        raise Broken(f"the key of {name} is not known")
    own = [s for n, i, s in signatures if n == name and i == key_id(name, 1, keys[name])]
    if not any(verifies(keys[name], signature, text.encode()) for signature in own):
        raise Broken(f"not signed by {name}")
    cosigners = set()
    for other, number, signature in signatures:
        key = keys.get(other)
        if other == name or key is None or number != key_id(other, 4, key) or len(signature) != 72:
            continue
        time = int.from_bytes(signature[:8], "big")
        message = f"cosignature/v1\ntime {time}\n{text}"
        if time < 1 << 63 and verifies(key, signature[8:], message.encode()):
            cosigners.add(other)
    return name, int(size), root, cosigners


def includes(leaf, index, size, proof, root):
    """RFC 9162, section 2.1.3.2, step by step."""
    if index >= size:
        return False
    node, last = index, size - 1
    result = leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            result = hashlib.sha256(b"\x01" + sibling + result).digest()
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = hashlib.sha256(b"\x01" + result + sibling).digest()
        node >>= 1
        last >>= 1
    return last == 0 and result == root


def members(value, required, optional=()):
    found = set(value)
    if not set(required) <= found or not found <= set(required) | set(optional):
        raise Broken(f"found the members {sorted(found)}")


def check_proof(proof, keys):
    members(proof, ["checkpoint", "entry", "format", "index", "origin", "proof", "public_key", "size"])
    if proof["format"] != "ifswarm-proof/1":
        raise Broken("another format")
    name = proof["origin"]
    key = bytes.fromhex(proof["public_key"])
    if keys.setdefault(name, key) != key:
        raise Broken("another key")
    signed, size, root, cosigners = read_checkpoint(proof["checkpoint"], keys)
    entry = parse(proof["entry"].encode("utf-8"))
    if (signed, size, entry["index"]) != (name, proof["size"], proof["index"]):
        raise Broken("the checkpoint or the entry is another")
    if not name.endswith("/" + entry["agent_id"]):
        raise Broken("the entry of another log")
    path = [decode(hash) for hash in proof["proof"]]
    if not includes(leaf_hash(proof["entry"].encode("utf-8")), proof["index"], size, path, root):
        raise Broken("the entry is not in the tree")
    return ["proof", name, proof["index"], size, root.hex(), named(cosigners)]


def check_export(header, data, keys):
    members(header, ["cosignatures", "entries", "format", "origin"], ["checkpoint", "roster"])
    if header["format"] != "ifswarm-export/1":
        raise Broken("another format")
    agent, entries, root, _ = check(data)
    opened = parse(data.split(b"\n", 1)[0])["metadata"]
    name = header["origin"]
    if opened["origin"] != name or entries != header["entries"]:
        raise Broken("the header is of another log")
    prefix = name.removesuffix(agent)
    known = {prefix + id: bytes.fromhex(key) for id, key in header.get("roster", {}).items()}
    keys = known | keys
    key = bytes.fromhex(opened["public_key"])
    if keys.setdefault(name, key) != key:
        raise Broken("another key")
    leaves = [leaf_hash(line) for line in data[:-1].split(b"\n")]
    covered, cosigners = 0, set()
    notes = [header["checkpoint"]] if "checkpoint" in header else []
    for note in notes + header["cosignatures"]:
        signed, size, head, by = read_checkpoint(note, keys)
        if signed != name or size > entries or tree_head(leaves[:size]) != head:
            raise Broken("the entries are not those that were signed")
        covered = max(covered, size)
        cosigners |= by
    return ["export", name, entries, root, covered, named(cosigners)]


def named(cosigners):
    return ",".join(sorted(cosigners)) or "-"


def check_file(data, keys):
    if data.startswith(b"ifswarm-log/"):
        name, size, root, cosigners = read_checkpoint(data.decode("utf-8"), keys)
        return ["checkpoint", name, size, root.hex(), named(cosigners)]
    first, _, rest = data.partition(b"\n")
    try:
        value = json.loads(first)
    except ValueError:
        value = {}
    form = value.get("format", "") if isinstance(value, dict) else ""
    if form.startswith("ifswarm-proof/"):
        if rest:
            raise Broken("something follows the proof")
        return check_proof(parse(first), keys)
    if form.startswith("ifswarm-export/"):
        return check_export(parse(first), rest, keys)
    return check(data)


def main():
    keys, paths = {}, []
    args = iter(sys.argv[1:])
    for arg in args:
        if arg == "--key":
            name, _, key = next(args).partition("=")
            keys[name] = bytes.fromhex(key)
        else:
            paths.append(arg)
    all_good = True
    for path in paths:
        with open(path, "rb") as file:
            data = file.read()
        try:
            print("ok", *check_file(data, dict(keys)))
        except (Broken, Refused, KeyError, TypeError, ValueError) as broken:
            print("broken", broken)
            all_good = False
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
