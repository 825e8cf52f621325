#!/bin/sh
# A worker out of a pipeline: acknowledges every request, under its id, to its author. The members of
# a message stand in the order of their names, and neither ids nor quotation marks in payloads (which
# JSON writes as \") can be mistaken for one, because each is looked for with all that surrounds it.
# Nothing may wait in a buffer: whoever asked is waiting too. So sed -u, and no awk: mawk has no such.
grep --line-buffered '^{"event":"message",.*"performative":"request"' |
    sed -u -n 's/^.*,"id":"\([^"]*\)".*,"performative":"request".*,"source":"\([^"]*\)".*$/{"destination":"\2","in_reply_to":"\1","performative":"inform","payload":{"received":true}}/p'
