"""The API's client for commands: one base URL, one key, and every refusal turned into a message and an exit code."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import httpx2
import typer

from gateway.entrypoints.cli import options
from gateway.entrypoints.cli.output import Exit, say, show_refusal, stop
from gateway.settings import Settings
from schemas.failure import Failure

URL, KEY = "SLUICE_URL", "SLUICE_KEY"

PROBLEM = "urn:sluice:problem:"
"""How the type of every refusal of this API begins; another server's 404 says nothing about a call."""

SLACK_S = 15.0
"""Seconds a request may take beyond the wait that it asks for."""

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104 - to connect, not to bind
_BY_CLASS: dict[str, Exit] = {
    Failure.INGEST_UNKNOWN_TOOL: Exit.NOT_FOUND,
    Failure.INGEST_UNKNOWN_CONNECTION: Exit.NOT_FOUND,
    Failure.INGEST_ARGUMENTS: Exit.USAGE,
}
_BY_STATUS = {
    400: Exit.USAGE,
    401: Exit.AUTH,
    403: Exit.AUTH,
    404: Exit.NOT_FOUND,
    413: Exit.USAGE,
    429: Exit.UNAVAILABLE,
    502: Exit.UNAVAILABLE,
    503: Exit.UNAVAILABLE,
    504: Exit.UNAVAILABLE,
}


def base_url() -> str:
    """Return where the API is: `SLUICE_URL`, else the settings' host and port."""
    url = url_of(options.settings())
    if not schemed(url):
        stop(Exit.USAGE, f"{URL}: {url} does not begin with http:// or https://.", meant(url))
    return url


def schemed(url: str) -> bool:
    """Tell whether an address says how to speak there."""
    return url.lower().startswith(("http://", "https://"))


def meant(url: str) -> str:
    """Return the line that sets what was probably meant."""
    return f"export {URL}=http://{url.rpartition('://')[2].lstrip('/')}"


def url_of(settings: Settings) -> str:
    """Return where the API of these settings is; `SLUICE_URL` wins."""
    given = os.environ.get(URL)
    if given:
        return given.rstrip("/")
    return f"http://{_ANY_ADDRESS.get(settings.host, settings.host)}:{settings.port}"


def ask(
    method: str,
    path: str,
    *,
    wait_s: float = 0.0,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Send one request and return status and body; ends the command when the answer is no."""
    url = base_url()
    key = os.environ.get(KEY)
    sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **(headers or {})}
    try:
        # A proxy of the environment is for other hosts; on the loopback it could only be in the way.
        with httpx2.Client(timeout=wait_s + SLACK_S, trust_env=not is_loopback(url)) as client:
            answer = client.request(method, url + path, json=body, headers=sent)
    except httpx2.ConnectError:
        stop(Exit.UNAVAILABLE, f"Nothing answers at {url}.", "sluice up     (or set SLUICE_URL)")
    except httpx2.InvalidURL as error:
        stop(Exit.USAGE, f"{URL} is not a URL: {error}")
    except (httpx2.TransportError, UnicodeEncodeError) as error:
        stop(Exit.UNAVAILABLE, f"{url} did not answer: {type(error).__name__} {error}".rstrip(), "sluice doctor")
    return answer.status_code, _body(answer, url)


def again(path: str) -> dict[str, Any] | None:
    """Look at something again; None while nothing answers, as when the gateway restarts. Ends the command when it is refused."""
    key, url = os.environ.get(KEY), base_url()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx2.Client(timeout=SLACK_S, trust_env=not is_loopback(url)) as client:
            answer = client.get(url + path, headers=headers)
    except httpx2.TransportError:
        return None
    return None if answer.status_code >= 500 else _body(answer, url)


def maybe(method: str, path: str, *, headers: dict[str, str]) -> dict[str, Any] | None:
    """Send one request whose answer is only an addition; None when it is no."""
    key = os.environ.get(KEY)
    sent = {**({"Authorization": f"Bearer {key}"} if key else {}), **headers}
    url = base_url()
    try:
        with httpx2.Client(timeout=SLACK_S, trust_env=not is_loopback(url)) as client:
            answer = client.request(method, url + path, headers=sent)
            body = answer.json() if answer.is_success else None
    except (httpx2.TransportError, httpx2.InvalidURL, json.JSONDecodeError):
        return None
    return body if isinstance(body, dict) else None


def stream(path: str, *, last: str | None) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream behind `last`, until it ends or breaks; ends the command when the answer is no."""
    url, key = base_url(), os.environ.get(KEY)
    sent = {"Accept": "text/event-stream", **({"Authorization": f"Bearer {key}"} if key else {})}
    sent |= {"Last-Event-ID": last} if last else {}
    try:
        with (
            httpx2.Client(timeout=httpx2.Timeout(SLACK_S, read=60.0), trust_env=not is_loopback(url)) as client,
            client.stream("GET", url + path, headers=sent) as answer,
        ):
            if answer.status_code >= 400:
                answer.read()
                _body(answer, url)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))
    except httpx2.ConnectError:
        stop(Exit.UNAVAILABLE, f"Nothing answers at {url}.", "sluice up     (or set SLUICE_URL)")
    except httpx2.TransportError as error:
        say(f"The stream broke off ({type(error).__name__}); asking for the rest.")


def _body(answer: httpx2.Response, url: str) -> dict[str, Any]:
    try:
        body = answer.json()
    except json.JSONDecodeError:
        body = None
    foreign = answer.status_code >= 400 and isinstance(body, dict) and not str(body.get("type")).startswith(PROBLEM)
    if not isinstance(body, dict) or foreign:
        stop(Exit.UNAVAILABLE, f"{url} answered {answer.status_code}, but not as Sluice does.", "sluice doctor")
    if answer.status_code >= 400:
        refuse(answer.status_code, body)
    return body


def refuse(status: int, problem: dict[str, Any]) -> NoReturn:
    """Tell a problem, to people and as data, and end the command."""
    show_refusal(problem)
    failure = problem.get("class")
    named = f" [{failure}]" if failure else ""
    say(f"{problem.get('title', status)}: {problem.get('detail', '')}{named}")
    for line in places(problem):
        say(f"  {line}")
    code = _BY_CLASS.get(failure) if isinstance(failure, str) else None
    hint = f"set {KEY} to the key of an Agent or Operator" if status == 401 else problem.get("action") or ""
    if hint:
        say(f"  next: {hint}")
    raise typer.Exit(code or _BY_STATUS.get(status, Exit.FAILED))


def places(problem: dict[str, Any]) -> Iterator[str]:
    """Yield what the entries of `errors` say beyond the detail: often the only one says the same again."""
    detail = str(problem.get("detail", ""))
    for error in problem.get("errors") or []:
        pointer, message = error.get("pointer") or "/", error.get("message")
        if message != detail:
            line = f"{pointer}: {message}"
            if not detail.endswith(line):
                yield line
        elif not re.search(rf"\b{re.escape(pointer.strip('?/'))}\b", detail):
            yield f"at {pointer}"


def is_loopback(url: str) -> bool:
    """Tell whether the API is on this machine."""
    return httpx2.URL(url).host in {"127.0.0.1", "::1", "localhost"}
