"""Connections in the hands of an operator: over HTTP and on the command line, with a consent in a browser, and no secret shown."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from redis.asyncio import Redis

from gateway import roles
from gateway.app import open_gateway
from gateway.entrypoints import api
from gateway.flow.connection_control import ConnectionControl
from gateway.settings import Settings
from tests.credentials import bench, refreshing
from tests.served import assert_problem, bearer, key_of, listening, people
from tests.shell import Shell
from tests.vendor.client import ROOT, VendorProcess, manifest
from tests.vendor.tokens import DeskRequest

pytestmark = pytest.mark.wire

AUTH = (
    "{type: oauth2, grant: refresh_token, token_url: /oauth/token, authorize_url: /oauth/authorize, "
    "scopes: [contacts], rotation: strict}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """An API with a source of tokens, a client and a command line."""

    http: httpx2.AsyncClient
    sluice: Shell
    url: str


@asynccontextmanager
async def desk(redis: "Redis", redis_url: str, vendor: VendorProcess, folder: Path) -> AsyncIterator[Desk]:
    (folder / "id").write_text("client")
    (folder / "secret").write_text("s3cret/with+signs")
    declared = manifest(vendor.url, auth=AUTH) + (
        "\n---\napiVersion: sluice/v1\nkind: Connection\nmetadata: {name: main, connector: crm}\n"
        f"secrets: {{client_id: '${{file:{folder}/id}}', client_secret: '${{file:{folder}/secret}}'}}\n"
    )
    declared += people(folder, {"bot": "crm.*"}, {"op": "operator", "eye": "viewer"})
    (folder / "m.yaml").write_text(declared)
    settings = Settings(redis_url=redis_url, data=folder / "data", connectors=[folder / "m.yaml"])
    async with (
        open_gateway(settings, "api") as gateway,
        bench(redis, vendor.url, refreshing("strict")) as one,
        listening(
            api.build(replace(roles._api_parts(gateway), connections=ConnectionControl(one.source, gateway.catalog)))
        ) as url,
        httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=bearer("op")) as http,
    ):
        yield Desk(http=http, sluice=Shell(folder, {"SLUICE_URL": url, "SLUICE_KEY": key_of("op")}), url=url)


async def test_an_operator_sets_checks_and_revokes(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path
) -> None:
    vendor.desk(DeskRequest(rotation="strict"))
    async with desk(redis, redis_url, vendor, tmp_path) as one:
        listed = await one.sluice("connections", "ls", "-o", "json")
        assert [(row["connection"], row["state"]) for row in listed.data] == [("crm/main", "needs_consent")]
        assert listed.data[0]["next"] == "sluice connections authorize crm/main"
        failed = await one.sluice("connections", "check", "crm/main", "-o", "json")
        assert (failed.code, failed.data["worked"]) == (1, False)
        given = await one.sluice("connections", "set", "crm/main", "-o", "json", stdin="refresh-0\n")
        assert (given.code, given.data["connection"]["state"]) == (0, "active")
        assert 3590 < given.data["connection"]["expires_s"] <= 3600
        checked = await one.sluice("connections", "check", "crm/main", "-o", "json")
        assert (checked.code, checked.data["connection"]["version"]) == (0, given.data["connection"]["version"] + 1)
        revoked = await one.sluice("connections", "revoke", "crm/main", "-o", "json")
        assert (revoked.code, revoked.data["state"]) == (0, "revoked")
        wrong = await one.sluice("connections", "set", "crm/main", "-o", "json", stdin="canary-refresh")
        assert (wrong.code, wrong.data["connection"]["state"]) == (1, "needs_consent")
        assert (await one.sluice("connections", "check", "crm/none")).code == 3
        assert (await one.sluice("connections", "check", "crm")).code == 2
        assert (await one.sluice("connections", "set", "crm/main", stdin="\n")).code == 2
        # The name is looked at first: where the connection is not there, no secret is asked for or read.
        absent = await one.sluice("connections", "set", "crm/none", stdin="\n")
        assert (absent.code, "crm/none" in absent.err, "token" in absent.err) == (3, True, False), absent.err
        shown = "".join(ran.out + ran.err for ran in (listed, failed, given, checked, revoked, wrong))
    for secret in ("refresh-0", "canary", "s3cret", *vendor.desk_counts().issued):
        assert secret not in shown


async def test_a_person_consents_in_a_browser(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path
) -> None:
    async with desk(redis, redis_url, vendor, tmp_path) as one:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "connections", "authorize", "crm/main", "--no-browser", "-o", "json",
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), **one.sluice.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr
        said = ""
        while not (found := re.search(r"http://\S+/oauth/authorize\?\S+", said)):
            said += (await asyncio.wait_for(process.stderr.readline(), 20)).decode()
        asked = {name: values[0] for name, values in parse_qs(urlsplit(found[0]).query).items()}
        assert asked["code_challenge_method"] == "S256"
        assert (asked["scope"], asked["client_id"], asked["response_type"]) == ("contacts", "client", "code")
        back = asked["redirect_uri"]
        assert back.startswith("http://127.0.0.1:")
        async with httpx2.AsyncClient(trust_env=False) as browser:
            forged = await browser.get(f"{back}?{urlencode({'code': 'x', 'state': 'guess'})}")
            assert forged.status_code == 404
            good = {"code": f"code-{asked['code_challenge']}", "state": asked["state"]}
            assert (await browser.get(f"{back}?{urlencode(good)}")).status_code == 200
        out, _ = await process.communicate()
        assert process.returncode == 0, out
        answer = (await one.http.get("/v1/connections/crm/main")).json()
        assert (answer["state"], answer["next"]) == ("active", "")
        assert vendor.desk_counts().granted == {"authorization_code": 1}
        assert (await one.sluice("connections", "check", "crm/main")).code == 0


@pytest.mark.parametrize(("who", "may"), [("op", True), ("eye", False), ("bot", False)])
async def test_only_an_operator_changes_a_credential(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path, who: str, may: Any
) -> None:
    async with desk(redis, redis_url, vendor, tmp_path) as one:
        place, verbs = "/v1/connections/crm/main", ("set", "check", "revoke", "authorize", "redeem")
        answers = [await one.http.post(f"{place}/{verb}", json={}, headers=bearer(who)) for verb in verbs]
        for answer in answers:
            if not may:
                assert_problem(answer, 403, "ingest.scope")
            assert answer.status_code != 401
        looked = await one.http.get("/v1/connections", headers=bearer(who))
        assert looked.status_code == (403 if who == "bot" else 200)


async def test_the_way_back_is_the_loopback(
    redis: "Redis", redis_url: str, vendor: VendorProcess, tmp_path: Path
) -> None:
    async with desk(redis, redis_url, vendor, tmp_path) as one:
        body = {"redirect_uri": "https://evil.example.com/", "state": "s", "challenge": "c"}
        answer = await one.http.post("/v1/connections/crm/main/authorize", json=body)
        problem = assert_problem(answer, 400, None)
        assert "loopback" in problem["detail"]
