"""The JSON Schema of a manifest file, for editors; generated from the models, so that it cannot say anything else."""

from typing import Annotated, Any

from pydantic import Discriminator, TypeAdapter

from connectors.manifest.model import API_VERSION, Manifest


def json_schema() -> dict[str, Any]:
    """Return one schema for all four kinds."""
    adapter: TypeAdapter[Manifest] = TypeAdapter(Annotated[Manifest, Discriminator("kind")])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Sluice manifest, {API_VERSION}",
        **adapter.json_schema(by_alias=True),
    }
