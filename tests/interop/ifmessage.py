#!/usr/bin/env python3
"""IFMessage v2.1, a second time: signs and verifies with nothing but the standard library and the
package `cryptography`. Written from the contract; shares no code with the Rust program.

    ifmessage.py verify FILE... [--roster ROSTER.yaml]
    ifmessage.py verify --hex-lines [--roster ROSTER.yaml]      one message per line of input, in hex
    ifmessage.py sign --secret HEX64 [--layout LAYOUT]          one unsigned message per line of input

`verify` prints a line for each: `ok SOURCE SHA256`, or `refused REASON: what was found`; its exit
code is 1 if any was refused. `sign` prints each signed message in hex: layouts may have newlines.
"""

import argparse
import hashlib
import json
import math
import re
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_MESSAGE = 256 * 1024
MAX_DEPTH = 64
MAX_INTEGER = 2**53 - 1


class Refused(Exception):
    def __init__(self, reason, detail):
        super().__init__(f"{reason}: {detail}")


# --- RFC 8785 --------------------------------------------------------------------------------


def canonical(value):
    """The canonical text of a JSON value."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number(float(value))
    if isinstance(value, str):
        # Escapes exactly what section 3.2.2.2 wants escaped, and in its way.
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in names) + "}"


def number(x):
    """ECMAScript's Number::toString. Python finds the same shortest digits, and places them otherwise."""
    if x == 0:
        return "0"
    if x < 0:
        return "-" + number(-x)
    mantissa, _, exponent = repr(x).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.DIGITS times ten to the power of `point`.
    leading = len(whole + fraction) - len(digits)
    point = len(whole) - leading + int(exponent or 0)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    sign = "+" if point > 0 else "-"
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return f"{digits[0]}{rest}e{sign}{abs(point - 1)}"


# --- reading ---------------------------------------------------------------------------------


def parse(data):
    """The object that these bytes are; raises `malformed`."""

    def members(pairs):
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key twice")
        return found

    def no_constant(text):
        raise ValueError(f"{text} is no number")

    if len(data) > MAX_MESSAGE:
        raise Refused("malformed", "too large")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=members, parse_constant=no_constant)
        check_values(value, 1)
    except (ValueError, OverflowError, RecursionError) as err:
        raise Refused("malformed", str(err)) from err
    if not isinstance(value, dict):
        raise Refused("malformed", "no object")
    return value


def check_values(value, depth):
    """Depth, finite numbers, no lone surrogates."""
    if isinstance(value, (dict, list)):
        if depth > MAX_DEPTH:
            raise ValueError("too deep")
        for item in value.values() if isinstance(value, dict) else value:
            check_values(item, depth + 1)
        if isinstance(value, dict):
            for name in value:
                name.encode("utf-8")
    elif isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, (int, float)) and not math.isfinite(float(value)):
        raise ValueError("a number that is not finite")


# --- the shape of each member ----------------------------------------------------------------


def matches(pattern):
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def is_timestamp(value):
    if not matches(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z")(value):
        return False
    year, month, day = int(value[:4]), int(value[5:7]), int(value[8:10])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = [31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    return 1 <= month <= 12 and 1 <= day <= days[month - 1]


def is_integer(least, most):
    # `type`, not `isinstance`: True is an int to Python, and 2.0 is 2.
    return lambda value: type(value) is int and least <= value <= most


def is_list(most, is_item):
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(is_item, value))


def is_citation(value):
    return isinstance(value, str) and len(value) <= 256 and re.match(r"(if://citation/|cit:)[\s\S]", value)


is_id = matches(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")

REQUIRED = {
    "id": is_id,
    "timestamp": is_timestamp,
    "level": is_integer(1, 2),
    "source": is_id,
    "destination": lambda value: value == "*" or is_id(value),
    "version": lambda value: value == "2.1",
    "payload": lambda value: isinstance(value, dict),
    "session": matches(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "sequence_num": is_integer(1, MAX_INTEGER),
}
OPTIONAL = {
    "performative": matches(
        "request|inform|agree|refuse|query-if|confirm|disconfirm|propose|accept-proposal|"
        "reject-proposal|cancel|failure|not-understood|escalate|hold"
    ),
    "conversation_id": is_id,
    "in_reply_to": is_id,
    "traceId": matches(r"[0-9a-f]{24}"),
    "citation_ids": is_list(64, is_citation),
    "hazards": is_list(16, lambda value: isinstance(value, str) and len(value) <= 64),
}
SIGNATURE = {
    "algorithm": lambda value: value == "ed25519",
    "public_key": matches(r"[0-9a-f]{64}"),
    "signature_bytes": matches(r"[0-9a-f]{128}"),
    "signed_fields": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
}


def check_members(value, required, optional):
    for name in required:
        if name not in value:
            raise Refused("schema", f"no {name}")
    for name, found in value.items():
        is_good = required.get(name) or optional.get(name)
        if is_good is None or not is_good(found):
            raise Refused("schema", name)


# --- verify and sign -------------------------------------------------------------------------


def verify(data, roster=None):
    """The source, and the SHA-256 of what it signed; raises `Refused` with the first reason."""
    message = parse(data)
    is_signed = "signature" in message
    signature = message.pop("signature", None)
    if is_signed:
        if not isinstance(signature, dict):
            raise Refused("schema", "signature")
        check_members(signature, SIGNATURE, {})
    check_members(message, REQUIRED, OPTIONAL)
    if not is_signed:
        raise Refused("unsigned", "no signature")
    if signature["signed_fields"] != sorted(message):
        raise Refused("partial-coverage", "signed_fields")
    source, key = message["source"], signature["public_key"]
    if roster is not None:
        if source not in roster:
            raise Refused("unknown-source", source)
        if roster[source] != key:
            raise Refused("key-mismatch", key)
    signed = canonical(message).encode("utf-8")
    try:
        public_key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public_key.verify(bytes.fromhex(signature["signature_bytes"]), signed)
    except (InvalidSignature, ValueError) as err:
        raise Refused("bad-signature", "does not verify") from err
    return source, hashlib.sha256(signed).hexdigest()


def sign(message, secret, layout):
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public_key = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    signature = {
        "algorithm": "ed25519",
        "public_key": public_key.hex(),
        "signature_bytes": key.sign(canonical(message).encode("utf-8")).hex(),
        "signed_fields": sorted(message),
    }
    return LAYOUTS[layout]({**message, "signature": signature}).encode("utf-8")


def backwards(value):
    """The same with the members of every object in the opposite order."""
    if isinstance(value, dict):
        return {name: backwards(value[name]) for name in reversed(list(value))}
    return list(map(backwards, value)) if isinstance(value, list) else value


# The same message, as different writers may put it on the wire.
LAYOUTS = {
    "canonical": canonical,
    "spaced": lambda value: "\r\n\t " + json.dumps(value, ensure_ascii=False, indent=3) + "\n",
    "backwards": lambda value: json.dumps(backwards(value), ensure_ascii=False, separators=(",", ":")),
    "escaped": lambda value: json.dumps(value, ensure_ascii=True).replace("/", "\\/"),
}


def read_roster(path):
    """Ids and keys of a swarm file, as far as it is written like fixtures/roster.yaml."""
    roster, current = {}, None
    with open(path, encoding="utf-8") as file:
        for line in file:
            if found := re.fullmatch(r"\s*- id: (\S+)\s*", line):
                current = found[1]
            elif found := re.fullmatch(r"\s*public_key: ([0-9a-f]{64})\s*", line):
                roster[current] = found[1]
    return roster


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verifying = verbs.add_parser("verify")
    verifying.add_argument("files", nargs="*")
    verifying.add_argument("--hex-lines", action="store_true")
    verifying.add_argument("--roster")
    signing = verbs.add_parser("sign")
    signing.add_argument("--secret", type=bytes.fromhex, required=True)
    signing.add_argument("--layout", choices=LAYOUTS, default="canonical")
    args = parser.parse_args()

    if args.verb == "sign":
        for line in sys.stdin.buffer:
            print(sign(json.loads(line), args.secret, args.layout).hex())
        return 0

    roster = read_roster(args.roster) if args.roster else None
    if args.hex_lines:
        messages = (bytes.fromhex(line.decode("ascii")) for line in sys.stdin.buffer)
    else:
        messages = (open(path, "rb").read() for path in args.files)
    all_good = True
    for data in messages:
        try:
            print("ok", *verify(data, roster))
        except Refused as refused:
            print("refused", refused)
            all_good = False
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
