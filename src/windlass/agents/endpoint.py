"""Where a language model's replies come from: an endpoint that is asked, or the record of one that was.

Either takes a :class:`Request` and gives an :class:`Exchange`; what goes wrong is its ``error``, never an exception.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel

from windlass.records.content import digest
from windlass.records.deciding import LanguageModel
from windlass.records.decision import Exchange

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic
    from openai import AsyncOpenAI
    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.models import Model

NAME = "language_model"  #: as a proposer, a critic, and in the log
LONGEST_REPLY = 20_000  #: characters; a longer one is cut, and so cannot be read
LONGEST_ERROR = 600  #: characters
_HOMES = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question. Equal requests have equal digests, today and in a replay."""

    system: str
    prompt: str
    tool: str  #: the name of the tool that takes the answer
    answer: type[BaseModel]  #: the answer's schema

    def digest(self, model: str) -> str:
        return digest({"model": model, "system": self.system, "prompt": self.prompt, "tool": self.tool})


class Replies(Protocol):
    def ask(self, request: Request) -> Exchange:
        """Ask once. ``reply`` is None exactly where none came; then ``error`` says why."""


def plain(text: str, limit: int) -> str:
    """One line of printable characters, cut to ``limit`` of them."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return flat if len(flat) <= limit and len(text) <= 4 * limit else flat[: limit - 1] + "…"


class Recorded:
    """The replies of a log, each for the request that it was given to, in the log's order."""

    def __init__(self, model: str, exchanges: Iterable[Exchange]) -> None:
        self._model = model
        self._left = [one for one in exchanges if one.agent == NAME and one.request]

    def ask(self, request: Request) -> Exchange:
        wanted = request.digest(self._model)
        for one in self._left:
            if one.request == wanted:
                self._left.remove(one)
                return one
        held = f"{len(self._left)} other(s) are" if self._left else "none is"
        error = f"replay: no reply is on record for request {wanted[:10]}; {held} left of this cycle"
        return Exchange(agent=NAME, model=self._model, request=wanted, reply=None, error=error)


class Endpoint:
    """An OpenAI-compatible or Anthropic endpoint, asked through pydantic-ai, which is imported on the first request.

    A request is sent once, without the client libraries' own retries, so that every one of them is on record. Prices
    are the study's. An endpoint that reports no token counts is charged a token for each UTF-8 byte, which is more
    than any text has, so that a budget holds there, too.
    """

    def __init__(self, section: LanguageModel, api_key: str | None) -> None:
        self._section = section
        self._key = api_key
        self._url = section.base_url or _HOMES[section.provider]
        #: for messages: without user, password and query
        self._host = urlsplit(self._url).netloc.rpartition("@")[2]

    def ask(self, request: Request) -> Exchange:
        section = self._section
        blank = Exchange(agent=NAME, model=section.model, request=request.digest(section.model), reply=None)
        if self._key is None and section.key_variable:
            return replace(blank, error=f"no key: the environment variable {section.key_variable} is not set")
        began = time.perf_counter()
        try:
            client, model = self._connect()
            began = time.perf_counter()  # the libraries' import is not the endpoint's time
            # a thread of its own: notebooks have an event loop running in this one
            with ThreadPoolExecutor(1) as thread:
                response = thread.submit(asyncio.run, self._send(request, client, model)).result()
        except ImportError as error:
            return replace(blank, error=f"pydantic-ai cannot be imported ({error}): pip install 'windlass[agents]'")
        except Exception as error:  # three libraries and a stranger's endpoint: whatever it is, it is on record
            text = plain(self._redact(self._explain(error)), LONGEST_ERROR)
            return replace(blank, error=text, seconds=time.perf_counter() - began)
        seconds = time.perf_counter() - began
        reply = _storable(self._redact(_answer(response, request.tool)))
        tokens = (response.usage.input_tokens, response.usage.output_tokens)
        if not any(tokens):
            tokens = (len((request.system + request.prompt).encode()), len(reply.encode()))
        price = section.price
        money = (tokens[0] * price.input + tokens[1] * price.output) / 1e6 if price else 0.0
        return replace(
            blank, reply=reply, input_tokens=tokens[0], output_tokens=tokens[1], money=money, seconds=seconds
        )

    async def _send(self, request: Request, client: AsyncOpenAI | AsyncAnthropic, model: Model) -> ModelResponse:
        from pydantic_ai.direct import model_request
        from pydantic_ai.messages import ModelRequest
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.tools import ToolDefinition

        tool = ToolDefinition(
            name=request.tool,
            description=request.answer.__doc__,
            parameters_json_schema=request.answer.model_json_schema(),
            kind="output",
        )
        wanted = ModelRequestParameters(output_mode="tool", output_tools=[tool], allow_text_output=False)
        message = ModelRequest.user_text_prompt(request.prompt, instructions=request.system)
        async with asyncio.timeout(self._section.timeout), client:
            return await model_request(model, [message], model_request_parameters=wanted)

    def _connect(self) -> tuple[AsyncOpenAI | AsyncAnthropic, Model]:
        """A client and its model. The libraries' own environment variables for key and address are not consulted.

        Raises ImportError where the extra ``agents`` is not installed.
        """
        import pydantic_ai.direct  # noqa: F401

        name = self._section.model.partition(":")[2]
        options: dict[str, Any] = {
            "api_key": self._key or "none",
            "base_url": self._url,
            "max_retries": 0,
            "timeout": None,  # the whole request has one, around all of this
        }
        if self._section.provider == "anthropic":
            from anthropic import AsyncAnthropic
            from pydantic_ai.models.anthropic import AnthropicModel
            from pydantic_ai.providers.anthropic import AnthropicProvider

            speaker = AsyncAnthropic(**options)
            return speaker, AnthropicModel(name, provider=AnthropicProvider(anthropic_client=speaker))
        from openai import AsyncOpenAI
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider
        from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

        client = AsyncOpenAI(**options)
        if self._section.base_url is None:
            return client, OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
        compatible = OpenAICompatibleProvider("openai-compatible", openai_client=client)
        return client, OpenAIChatModel(name, provider=compatible)

    def _explain(self, error: Exception) -> str:
        from pydantic_ai.exceptions import ModelConnectionError, ModelHTTPError

        if isinstance(error, TimeoutError):
            return f"{self._host} did not answer within {self._section.timeout:g} s"
        if isinstance(error, ModelHTTPError):
            return f"{self._host} answered HTTP {error.status_code}: {_message(error.body)}"
        if isinstance(error, ModelConnectionError):
            return f"{self._host} cannot be asked: {_root(error)}"
        return f"{self._host} answered what is no reply: {type(error).__name__}: {error}"

    def _redact(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def _answer(response: ModelResponse, tool: str) -> str:
    """The arguments of the call to ``tool``; where there is none, the text."""
    for call in response.tool_calls:
        if call.tool_name == tool:
            return call.args if isinstance(call.args, str) else json.dumps(call.args, ensure_ascii=False)
    return response.text or ""


def _storable(text: str) -> str:
    """Text that every store can hold: no lone surrogates, no NUL; cut where it is longer than anything readable."""
    return text.encode("utf-8", "replace").decode().replace("\0", "�")[: LONGEST_REPLY + 1]


def _message(body: object) -> str:
    """The words of a provider's error: ``{"error": {"message": ...}}``, as far as it is that."""
    while isinstance(body, dict) and (inner := body.get("error") or body.get("message")):
        body = inner
    return str(body)


def _root(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"
