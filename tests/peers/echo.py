"""An MCP server on stdin and stdout that does exactly what a test says, byte by byte, and keeps what it was sent.

No SDK, no library: every line is written as the test gave it. Options are pairs of NAME and VALUE, VALUE being raw
JSON text that goes on the wire as it is:

    log PATH           every line received, as it came, is appended to this file
    initialize RAW     the result of `initialize`
    tools|prompts|resources|templates RAW
                       the array in the result of the list request; a change_* step replaces it
    page.METHOD[:CURSOR] RAW
                       the members of the reply to METHOD without, or with this cursor
    reply.METHOD RAW   the members of the reply to METHOD, such as `"error":{...}`
    era modern         it speaks 2026-07-28 and nothing else; `reply` and the like are then that era's results

A `tools/call` (and every other request whose params have `arguments`) is a script, in `arguments`:

    say    [line...]   written at once; `$ID` is the request's id, `$TOKEN` its progress token
    flood  [n, line]   the line so many times, before what `say` says; `$FILL` is 64 KiB of text
    change [kind, raw] the list is this from now on
    hold   name        the answer waits until the name is released
    ask    [[line, text]...]
                       the first line is written, the next one when a line with the text of the one before has come; the
                       last such line is the text of the result
    rounds {state: raw}
                       the members of the reply to a request with this `requestState` (`""` without one)
    until  text        the answer waits for a line with this text, and the text of that line is the result; with
                       `fail` it is an error
    release name       the answers that are held under the name are given, in random order
    bytes  n           the result has a text of so many bytes
    reply  raw         the members of the reply; without it the result's text is the line that came
    then   [line...]   written after the answer
    exit   code        the process ends, without an answer
"""

import json
import os
import random
import sys

options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
log = open(options["log"], "ab", buffering=0) if "log" in options else None
held: dict[str, list[tuple[str, str]]] = {}
awaited: list[tuple[str, str, list[list[str]]]] = []  # text, id, what is asked after that
failing: set[str] = set()  # ids

INITIALIZE = (
    '{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},'
    '"resources":{"listChanged":true,"subscribe":true},"completions":{},"logging":{}},'
    '"serverInfo":{"name":"echo","version":"0"}}'
)
LISTS = {
    "tools/list": ("tools", "tools", '[{"name":"run","inputSchema":{"type":"object"}}]'),
    "prompts/list": ("prompts", "prompts", "[]"),
    "resources/list": ("resources", "resources", "[]"),
    "resources/templates/list": ("templates", "resourceTemplates", "[]"),
}


DISCOVER = (
    '{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},'
    '"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{},"logging":{}},'
    '"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"echo","version":"0"}}}'
)
NOT_THIS_ERA = '"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}'
ACKNOWLEDGED = (
    '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":%s,'
    '"_meta":{"io.modelcontextprotocol/subscriptionId":%s}}}'
)
is_modern = options.get("era") == "modern"
complete = '"resultType":"complete",' if is_modern else ""
listed = complete + '"ttlMs":0,"cacheScope":"private",' if is_modern else ""


def write(*lines):
    data = "".join(line + "\n" for line in lines).encode()
    while data:
        data = data[os.write(1, data) :]


def answer(id, members):
    write('{"jsonrpc":"2.0","id":%s,%s}' % (id, members))


def text(value):
    return '"result":{%s"content":[{"type":"text","text":%s}]}' % (complete, json.dumps(value))


def ask(id, questions):
    (line, text), *later = questions
    awaited.append((text, id, later))
    write(line)


def script(id, token, state, steps, line):
    fill = lambda lines: [raw.replace("$ID", id).replace("$TOKEN", token) for raw in lines]
    if "flood" in steps:
        count, raw = steps["flood"]
        flood = fill([raw.replace("$FILL", "f" * 65536)])[0]
        for _ in range(count):
            write(flood)
    write(*fill(steps.get("say", [])))
    if "change" in steps:
        kind, raw = steps["change"]
        options[kind] = raw
    if "exit" in steps:
        os._exit(steps["exit"])
    members = fill([steps["reply"]])[0] if "reply" in steps else text(line)
    if "rounds" in steps:
        members = steps["rounds"].get(state, members)
    if "bytes" in steps:
        members = text("x" * steps["bytes"])
    if "hold" in steps:
        held.setdefault(steps["hold"], []).append((id, members))
    elif "until" in steps:
        awaited.append((steps["until"], id, []))
        if "fail" in steps:
            failing.add(id)
    elif "ask" in steps:
        ask(id, [[fill([raw])[0], until] for raw, until in steps["ask"]])
    else:
        answer(id, members)
    if "release" in steps:
        waiting = held.pop(steps["release"], [])
        random.shuffle(waiting)
        for one in waiting:
            answer(*one)
    write(*fill(steps.get("then", [])))


def request(method, id, params, line):
    if is_modern and method == "initialize":
        return answer(id, NOT_THIS_ERA)
    if is_modern and method == "server/discover":
        return answer(id, '"result":' + DISCOVER)
    if is_modern and method == "subscriptions/listen":
        return write(ACKNOWLEDGED % (json.dumps(params["notifications"]), id))
    if method == "initialize":
        return answer(id, '"result":' + options.get("initialize", INITIALIZE))
    if "reply." + method in options:
        return answer(id, options["reply." + method])
    cursor = params.get("cursor") if isinstance(params, dict) else None
    page = "page." + method + (":" + cursor if isinstance(cursor, str) else "")
    if page in options:
        return answer(id, options[page])
    if method in LISTS:
        name, member, default = LISTS[method]
        return answer(id, '"result":{%s"%s":%s}' % (listed, member, options.get(name, default)))
    if method in ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        return answer(id, '"result":{}')
    steps = params.get("arguments") if isinstance(params, dict) else None
    meta = params.get("_meta") if isinstance(params, dict) else None
    token = json.dumps(meta.get("progressToken") if isinstance(meta, dict) else None)
    state = params.get("requestState", "") if isinstance(params, dict) else ""
    script(id, token, state, steps if isinstance(steps, dict) else {}, line)


for raw in sys.stdin.buffer:
    if log:
        log.write(raw)
    line = raw.decode().rstrip("\n")
    message = json.loads(line)
    for waiting in [one for one in awaited if one[0] in line]:
        awaited.remove(waiting)
        _, id, later = waiting
        if later:
            ask(id, later)
        else:
            answer(id, '"error":{"code":-1,"message":"failed"}' if id in failing else text(line))
    if "method" in message and "id" in message:
        request(message["method"], json.dumps(message["id"]), message.get("params"), line)
