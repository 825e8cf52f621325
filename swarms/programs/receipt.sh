#!/bin/sh
# A worker out of a pipeline: acknowledges every request, under its id, to its author.
# The members of a message stand in the order of their names. What comes before the payload is looked
# for from the beginning of the line, and what comes after it from the end, so that nothing inside a
# payload is taken for them. Requests with citations or hazards are for somebody who can read JSON.
# Nothing may wait in a buffer, for whoever asked waits too: hence sed -u, and no awk, which may read
# more than one line before it begins.
head='{"event":"message","message":{\("conversation_id":"[^"]*",\)\{0,1\}"destination":"[^"]*","id":"\([^"]*\)",'
tail='"performative":"request","sequence_num":[0-9]*,"session":"[^"]*","source":"\([^"]*\)",'
reply='{"destination":"\3","in_reply_to":"\2","performative":"inform","payload":{"received":true}}'
grep --line-buffered '^{"event":"message"' | sed -u -n "s|^$head.*$tail.*\$|$reply|p"
