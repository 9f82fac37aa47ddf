"""What /openapi.json says beyond what FastAPI can see: the body that the webhook route reads by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Security
from fastapi.openapi.utils import get_openapi
from fastapi.security import HTTPBearer

from firebreak.gateway.alertmanager import Webhook

BEARER: Any = Security(HTTPBearer(auto_error=False, description="The webhook token."))
"""Only declares the scheme: the route compares the token itself."""

_SCHEMA_REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> None:
    """Add the webhook's request body and its models to the app's OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    webhook = Webhook.model_json_schema(ref_template=_SCHEMA_REF)
    schemas = document["components"]["schemas"]
    schemas.update(webhook.pop("$defs"))
    schemas["Webhook"] = webhook
    document["paths"]["/v1/alerts/alertmanager"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _SCHEMA_REF.format(model="Webhook")}}},
    }
    return document
