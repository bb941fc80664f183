"""The events of the streams over HTTP, kept so that a client can take up a stream that was closed (SEP-1699)."""

from collections import deque

from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage

# Older ones are forgotten: what was lost cannot be replayed.
EVENTS_MAX = 1000


class Streams(EventStore):
    """One numbering for all streams. The SDK names a stream by its request's id alone, so sessions that use the same
    id at the same time would share a replay; the suite's scenarios come one after the other."""

    def __init__(self) -> None:
        self._events: deque[tuple[int, str, JSONRPCMessage | None]] = deque(maxlen=EVENTS_MAX)
        self._last = 0

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._last += 1
        self._events.append((self._last, stream_id, message))
        return str(self._last)

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        stream = next((stream for number, stream, _ in self._events if str(number) == last_event_id), None)
        if stream is None:
            return None
        for number, of, message in list(self._events):
            # A priming event has no message; the resumed stream gets one of its own.
            if of == stream and number > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream
