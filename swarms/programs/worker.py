#!/usr/bin/env python3
"""A worker behind `ifswarm agent --exec` or `exec:` in a swarm file. Nothing but the standard library.

Standard input tells what happens, standard output takes messages, one JSON object a line each way;
standard error is for people. This one counts the words of whatever text it is asked about.
"""

import json
import sys


def answer(payload):
    """What to say to a request: a performative, and the payload of the reply."""
    text = payload.get("text", "")
    if not isinstance(text, str):
        return "refuse", {"reason": "`text` is no text"}
    return "inform", {"words": len(text.split())}


def main():
    for line in sys.stdin:
        event = json.loads(line)
        if event["event"] == "error":
            print(event["message"], file=sys.stderr, flush=True)
        if event["event"] != "message":
            continue
        message = event["message"]
        if message.get("performative") not in ("request", "query-if", "escalate"):
            continue
        performative, payload = answer(message["payload"])
        reply = {
            "destination": message["source"],
            "performative": performative,
            "in_reply_to": message["id"],
            "traceId": message["traceId"],
            "payload": payload,
        }
        if "conversation_id" in message:
            reply["conversation_id"] = message["conversation_id"]
        # At once: whoever asked is waiting.
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
