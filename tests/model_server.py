"""A local HTTP server that speaks OpenAI's chat completions and Anthropic's messages, over a real socket.

It answers requests with prepared replies, in their order, and keeps what it was asked. A request that the protocol does
not allow is answered with HTTP 400, as the providers do.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from windlass.records.content import canonical


@dataclass(frozen=True, kw_only=True)
class Says:
    """A call to the one tool of the request; ``arguments`` is data, or JSON text as it is. Or plain ``text``."""

    arguments: Any = None
    text: str | None = None
    tokens: tuple[int, int] | None = (1_000, 200)  #: input and output; None: not reported

    @property
    def argument_text(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else canonical(self.arguments)


@dataclass(frozen=True, kw_only=True)
class Fails:
    """An HTTP error; ``{key}`` in the message becomes the key that the request came with."""

    status: int
    message: str = "no"


@dataclass(frozen=True)
class Hangs:
    """No answer until the event is set; the server sets it at its end."""

    until: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Raw:
    """A body as it is, with HTTP 200."""

    body: bytes
    kind: str = "application/json"


Reply = Says | Fails | Hangs | Raw


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]  #: names in lower case
    body: dict[str, Any]

    @property
    def system(self) -> str:
        if self.path.endswith("/messages"):
            system = self.body["system"]
            return system if isinstance(system, str) else "".join(part["text"] for part in system)
        return _text(next(m for m in self.body["messages"] if m["role"] == "system")["content"])

    @property
    def prompt(self) -> str:
        return _text(self.body["messages"][-1]["content"])


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


class ModelServer:
    """``with ModelServer(reply, ...) as server``; without a reply left it answers HTTP 500."""

    def __init__(self, *replies: Reply) -> None:
        self.asked: list[Asked] = []
        self._replies = list(replies)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._hanging = [reply for reply in self._replies if isinstance(reply, Hangs)]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for reply in self._hanging:
            reply.until.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                server.asked.append(asked)
                speak = {"/v1/chat/completions": _openai, "/v1/messages": _anthropic}.get(self.path)
                if speak is None:
                    return self._send(404, {"error": {"message": f"no {self.path}", "type": "not_found_error"}})
                if fault := _fault(asked):
                    return self._send(400, {"error": {"message": fault, "type": "invalid_request_error"}})
                reply = server._replies.pop(0) if server._replies else Fails(status=500, message="no reply prepared")
                if isinstance(reply, Hangs):
                    reply.until.wait(30)
                    self.close_connection = True
                elif isinstance(reply, Fails):
                    message = reply.message.replace("{key}", _key(asked))
                    self._send(reply.status, {"type": "error", "error": {"message": message, "type": "error"}})
                elif isinstance(reply, Raw):
                    self._write(200, reply.body, reply.kind)
                else:
                    self._send(200, speak(asked.body, reply))

            def _send(self, status: int, data: Any) -> None:
                self._write(status, json.dumps(data).encode(), "application/json")

            def _write(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _key(asked: Asked) -> str:
    return asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")


def _fault(asked: Asked) -> str:
    """What the protocol does not allow about a request."""
    body = asked.body
    anthropic = asked.path.endswith("/messages")
    wanted = ["model", "messages", "tools", "tool_choice", *(["max_tokens", "system"] if anthropic else [])]
    if missing := [name for name in wanted if name not in body]:
        return f"missing: {', '.join(missing)}"
    if body.get("stream"):
        return "this server does not stream"
    if anthropic and "anthropic-version" not in asked.headers:
        return "missing: anthropic-version"
    roles = {"user", "assistant"} if anthropic else {"system", "developer", "user", "assistant", "tool"}
    if any(message["role"] not in roles for message in body["messages"]):
        return "a message has an unknown role"
    schema = "input_schema" if anthropic else "parameters"
    tools = body["tools"] if anthropic else [tool["function"] for tool in body["tools"] if tool["type"] == "function"]
    if len(tools) != 1 or tools[0][schema]["type"] != "object":
        return "one tool with an object schema is wanted"
    return ""


def _openai(body: dict[str, Any], reply: Says) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    if reply.text is None:
        called = {"name": body["tools"][0]["function"]["name"], "arguments": reply.argument_text}
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": called}]
    usage = None
    if reply.tokens is not None:
        spent, made = reply.tokens
        usage = {"prompt_tokens": spent, "completion_tokens": made, "total_tokens": spent + made}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop" if reply.text else "tool_calls"}],
        **({"usage": usage} if usage else {}),
    }


def _anthropic(body: dict[str, Any], reply: Says) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": reply.text}
    if reply.text is None:
        data = json.loads(reply.argument_text)
        content = {"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": data}
    spent, made = reply.tokens or (0, 0)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [content],
        "stop_reason": "end_turn" if reply.text else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": spent, "output_tokens": made},
    }
