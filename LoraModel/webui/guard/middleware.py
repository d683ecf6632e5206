"""The guard: an ASGI middleware around Gradio's application, for requests and for the WebSocket of its queue."""

from __future__ import annotations

import json
from typing import Any, Awaitable, Callable, Dict, List, MutableMapping, Optional, Union

from ...messages import Text, UserError
from . import events
from .addresses import Addresses, of_another_site
from .served import ServedFiles

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FILES = ("/file=", "/file/")
CLOSED = ("/proxy=", "/component_server")
"""Gradio fetches what is asked for from another machine, or runs functions of components: neither is used."""
FORMS = {"/upload": ("multipart/form-data",), "/login": ("multipart/form-data", "application/x-www-form-urlencoded")}
QUEUE = "/queue/join"
POLICY_VIOLATION, TOO_BIG = 1008, 1009  # codes of WebSocket


class Refusal(Exception):
    """A request that is not let through: its HTTP status and the reason in words."""

    def __init__(self, status: int, reason: Union[Text, UserError]):
        super().__init__(status)
        self.status, self.text = status, str(reason)


class Guard:
    """Lets a request through to `app`, or answers why not.

    Args:
        app: what is guarded. page: Gradio's application (`page.blocks`). addresses: which Host and Origin headers are
            answered.
        limit: bytes that one request, or one message of the queue, may carry.
    """

    def __init__(self, app: Any, page: Any, addresses: Addresses, limit: int):
        self.app, self.page, self.addresses, self.limit = app, page, addresses, limit
        self.files = ServedFiles(page)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:  # the server's start and end
            await self.app(scope, receive, send)

    # ---------------------------------------------------------------- who asks

    def _check_sender(self, scope: Message, headers: Dict[str, List[str]]) -> None:
        """The Host must be the page's own; an Origin, where the browser sends one, the same; and no other site may ask
        in its own name."""
        hosts = headers.get("host", [])
        host, port = hosts[0] if len(hosts) == 1 else "", (scope.get("server") or (None, None))[1]
        shared = getattr(self.page.blocks, "share_url", None)
        if not self.addresses.answers(host, port, shared):
            raise Refusal(403, Text("this page does not answer under the address {host}: open it under the address "
                                    "that it printed when it started. For a page that is meant to be reached under "
                                    "another name, set RVC_LORA_HOSTS to that name", host=ascii(host)[:120]))
        visit = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and scope["path"] == "/"
        if of_another_site(headers, host, visit, shared or ""):
            raise Refusal(403, Text("another site's page asked for this: what belongs to this page is given to this "
                                    "page alone"))

    # ---------------------------------------------------------------- requests

    async def _http(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = _headers(scope)
        try:
            self._check_sender(scope, headers)
            self._check_path(scope["path"])
            if scope["method"] not in ("GET", "HEAD", "POST"):
                raise Refusal(405, Text("this page takes GET, HEAD and POST alone"))
            length = (headers.get("content-length") or ["0"])[0]
            if not (length.isascii() and length.isdigit()) or int(length[:20]) > self.limit:
                raise self._too_big()
            if scope["method"] == "POST":
                wanted = FORMS.get(scope["path"].rstrip("/"), ("application/json",))
                given = [value.split(";")[0].strip().lower() for value in headers.get("content-type", [])]
                # as gradio_client 0.2 posts
                untyped = not given and wanted == ("application/json",) and not _from_browser(headers)
                if not untyped and (len(given) != 1 or given[0] not in wanted):
                    raise Refusal(415, Text("a post to this address must be {first}", first=wanted[0]))
                if wanted == ("application/json",):
                    receive = await self._checked_body(receive, scope["path"])
        except Refusal as refusal:
            await _answer(send, refusal)
            return
        await _Exchange(self, scope["path"]).run(scope, receive, send)

    def _check_path(self, path: str) -> None:
        if path.startswith(CLOSED):
            raise Refusal(403, Text("this page does not fetch or run that"))
        for start in FILES:
            if path.startswith(start) and not self.files.allows(path[len(start):]):
                raise Refusal(403, Text("this file was neither made by this page nor uploaded to it"))

    async def _checked_body(self, receive: Receive, path: str) -> Receive:
        """Read a JSON body to its end and look through it; a `receive` that gives it again."""
        pieces, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            pieces.append(message.get("body", b""))
            size, more = size + len(pieces[-1]), message.get("more_body", False)
            if size > self.limit:
                raise self._too_big()
        body = b"".join(pieces)
        try:
            events.check(events.parse(body), self.page.blocks, self.files.allows, path.rstrip("/").split("/")[-1])
        except UserError as error:
            raise Refusal(400, error) from error
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        return again

    def _too_big(self) -> Refusal:
        most = self.limit // 2**20
        return Refusal(413, Text("this is more than the {most} MB that one upload may have: give a shorter recording, "
                                 "or set RVC_LORA_UPLOAD_MB higher", most=most))

    # ---------------------------------------------------------------- the queue

    async def _websocket(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            self._check_sender(scope, _headers(scope))
            if scope["path"] != QUEUE:
                raise Refusal(403, Text("there is no such WebSocket"))
        except Refusal:
            await receive()  # the connection's request; closed before it is accepted, it is answered by 403
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        closed = False

        async def close(code: int, text: str) -> None:
            nonlocal closed
            closed = True
            # the page shows it as an event's failure
            answer = {"msg": "process_completed", "output": {"error": text}, "success": False}
            await send({"type": "websocket.send", "text": json.dumps(answer)})
            await send({"type": "websocket.close", "code": code})

        async def checked() -> Message:
            message = await receive()
            if message["type"] != "websocket.receive" or closed:
                return message
            text = message.get("text")
            try:
                if text is not None and len(text) > self.limit:
                    await close(TOO_BIG, self._too_big().text)
                else:
                    events.check(events.parse(text or ""), self.page.blocks, self.files.allows)
                    return message
            except UserError as error:
                await close(POLICY_VIOLATION, str(error))
            return {"type": "websocket.disconnect", "code": POLICY_VIOLATION}

        async def sending(message: Message) -> None:
            if not closed:
                await send(message)

        try:
            await self.app(scope, checked, sending)
        except Exception:
            if not closed:  # Gradio does not expect an end at this moment
                raise


class _Exchange:
    """One request that was let through: counts what comes, and changes the answer's headers."""

    def __init__(self, guard: Guard, path: str):
        self.guard, self.path = guard, path
        self.size, self.begun, self.refused = 0, False, False
        self.answer: Optional[List[bytes]] = None  # of an upload: where Gradio wrote it

    async def run(self, scope: Message, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            message = await receive()
            self.size += len(message.get("body") or b"")
            if self.size > self.guard.limit and not self.begun:
                self.refused = True
                await _answer(send, self.guard._too_big())
            return {"type": "http.disconnect"} if self.refused else message

        async def sending(message: Message) -> None:
            if self.refused:
                return
            if message["type"] == "http.response.start":
                self.begun = True
                message = {**message, "headers": self._safer(message.get("headers", []))}
                if self.path.rstrip("/") == "/upload" and message["status"] == 200:
                    self.answer = []
            elif self.answer is not None:
                self.answer.append(message.get("body", b""))
                if not message.get("more_body", False):
                    self._remember()
            await send(message)

        try:
            await self.guard.app(scope, counted, sending)
        except Exception:
            if not self.refused:  # the upload was cut off, which its reader did not expect
                raise

    def _remember(self) -> None:
        try:
            written = json.loads(b"".join(self.answer or []))
        except ValueError:
            return
        for path in written if isinstance(written, list) else []:
            if isinstance(path, str):
                self.guard.files.uploaded(path)

    def _safer(self, headers: Any) -> List[Any]:
        kept = [(key, value) for key, value in headers if not key.lower().startswith(b"access-control-")]
        kept += [(b"x-content-type-options", b"nosniff"), (b"x-frame-options", b"SAMEORIGIN"),
                 (b"referrer-policy", b"same-origin"), (b"cross-origin-resource-policy", b"same-origin")]
        if self.path.startswith(FILES):
            kept.append((b"content-security-policy", b"sandbox"))  # an uploaded page runs nothing in this page's name
        return kept


def _headers(scope: Message) -> Dict[str, List[str]]:
    found: Dict[str, List[str]] = {}
    for key, value in scope["headers"]:
        found.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _from_browser(headers: Dict[str, List[str]]) -> bool:
    """Whether a browser sent this: each of them names the asking page with every post, also where it hides which page
    it was."""
    return any(name == "origin" or name == "referer" or name.startswith("sec-fetch-") for name in headers)


async def _answer(send: Send, refusal: Refusal) -> None:
    """The reason, under the names in which Gradio's pages look for it."""
    body = json.dumps({"error": refusal.text, "detail": refusal.text}, ensure_ascii=False).encode("utf-8")
    headers = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", str(len(body)).encode()),
               (b"connection", b"close"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
