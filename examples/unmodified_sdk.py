"""An unmodified SDK on the gateway, in one process: `python examples/unmodified_sdk.py`, with the manifest beside it."""

import asyncio
from pathlib import Path

import httpx2
from openai import AsyncOpenAI

from gateway.sdk.httpx2_transport import GatewayTransport
from gateway.settings import Settings

SETTINGS = Settings(connectors=[Path(__file__).with_name("chat.yaml")])


async def main(settings: Settings = SETTINGS, url: str = "http://127.0.0.1:9090/v1") -> str | None:
    """Ask once."""
    async with GatewayTransport.open(settings, agent="me") as transport:
        http = httpx2.AsyncClient(transport=transport)
        client = AsyncOpenAI(base_url=url, api_key="not-used", http_client=http, max_retries=0)
        said = await client.chat.completions.create(model="m-1", messages=[{"role": "user", "content": "hello"}])
        return said.choices[0].message.content


if __name__ == "__main__":
    print(asyncio.run(main()))  # noqa: T201 - it is an example
