"""The OpenAPI document: each model's own path, with the types, limits and an example row of its contract."""

from typing import Any

from serving.contract import Contract, contract_of
from serving.follower import Follower
from serving.problems import MEDIA_TYPE
from serving.values import Field
from serving.versions import class_names

TYPES = {"number": ["number"], "text": ["string"], "key": ["string", "integer"], "time": ["string"]}
PROBLEMS = {
    "400": "The body cannot be read, or is no scoring request",
    "401": "A token is needed",
    "404": "No such model",
    "408": "The body did not come in time",
    "413": "Too many bytes or rows",
    "415": "Neither JSON nor CSV",
    "422": "Rows that the model does not take; `errors` names row, field and value",
    "503": "No version answers, or answers cannot be recorded",
}


def document(follower: Follower) -> dict[str, Any]:
    """What the server takes and says now."""
    paths: dict[str, Any] = {
        "/health": {"get": _simple("Whether the process answers", "Status")},
        "/ready": {
            "get": _simple("Whether requests should come here, what is served, and what is wrong", "Ready", ("503",))
        },
        "/models": {"get": _simple("Every model with the versions that answer", "Models")},
        "/metrics": {"get": _metrics()},
    }
    for name, reign in dict(follower.reigns).items():
        paths[f"/models/{name}"] = {"get": _simple(f"The versions that answer for {name}", "Model")}
        if name not in follower.resources:
            continue
        config = follower.resources[name].config
        contract = reign.champion.contract if reign.champion else contract_of(config, config.features.learned)
        paths[f"/models/{name}/invocations"] = {
            "post": _invocations(name, config.description, contract, class_names(config))
        }
    for path, methods in paths.items():
        for operation in methods.values():
            operation["tags"] = [path.split("/")[2] if path.startswith("/models/") else "server"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Evergreen serving",
            "version": "1",
            "description": "Predictions by each model's champion, in MLflow's scoring protocol.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _simple(summary: str, schema: str, others: tuple[str, ...] = ()) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    found = {"200": {"description": summary, "content": content}}
    found |= {status: {"description": "The same, but not ready", "content": content} for status in others}
    return {"summary": summary, "responses": found | _problems("401")}


def _metrics() -> dict[str, Any]:
    found = {
        "200": {"description": "Prometheus' text format", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    return {"summary": "Metrics for Prometheus", "responses": found | _problems("401")}


def _problems(*statuses: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}


def _invocations(name: str, description: str, contract: Contract, classes: list[str]) -> dict[str, Any]:
    fields = list(contract.fields.values())
    required = [own.name for own in fields if own.required]
    row = {
        "type": "object",
        "properties": {own.name: field_schema(own) for own in fields},
        "required": required,
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": row, "minItems": 1}
    example = {own.name: example_of(own) for own in fields if own.required}  # without a key, so that it is nobody's row
    split = {"columns": list(example), "data": [list(example.values())]}
    forms = {
        "dataframe_split": {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {
                "columns": {"type": "array", "items": {"enum": [own.name for own in fields]}, "uniqueItems": True},
                "data": {"type": "array", "items": {"type": "array"}, "minItems": 1},
                "index": {},
            },
            "additionalProperties": False,
        },
        "dataframe_records": rows,
        "instances": rows,
        "inputs": {
            "type": "object",
            "properties": {own.name: {"type": "array", "items": field_schema(own), "minItems": 1} for own in fields},
            "required": required,
            "additionalProperties": False,
        },
    }
    bodies = [
        {"type": "object", "properties": {form: schema, "params": {"type": "object", "maxProperties": 0}}, "required": [form],
         "additionalProperties": False}
        for form, schema in forms.items()
    ]  # fmt: skip
    one = {"type": "array", "items": {"type": "number"}, "description": f"probabilities of {', '.join(classes)}"}
    predictions = one if classes else {"type": "number"}
    line = ",".join(example), ",".join("" if value is None else str(value) for value in example.values())
    return {
        "summary": f"Predictions of {name}",
        "description": f"{description.strip()}\n\nThe key names a row for ever: by it outcomes are joined. A row without one, or without a "
        "time, gets the request's.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"oneOf": bodies},
                    "examples": {
                        "dataframe_records": {"value": {"dataframe_records": [example]}},
                        "dataframe_split": {"value": {"dataframe_split": split}},
                    },
                },
                "text/csv": {"schema": {"type": "string"}, "example": "\n".join(line) + "\n"},
            },
        },
        "responses": {
            "200": {
                "description": "A prediction for each row, and who made it",
                "content": {"application/json": {"schema": _answer(predictions)}},
            },
        }
        | _problems(*PROBLEMS),
    }


def _answer(predictions: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["predictions", "model", "version", "as_of", "request_id"],
        "properties": {
            "predictions": {"type": "array", "items": predictions},
            "model": {"type": "string"},
            "version": {"type": "string", "description": "the champion"},
            "versions": {
                "type": "array",
                "items": {"type": "string"},
                "description": "of each row, where a challenger has some",
            },
            "as_of": {
                "type": "string",
                "format": "date-time",
                "description": "the moment of which the champion was promoted",
            },
            "request_id": {"type": "string"},
        },
    }


def field_schema(own: Field) -> dict[str, Any]:
    """A field as JSON Schema, null where it is allowed."""
    schema: dict[str, Any] = {"type": TYPES[own.kind], **own.schema}
    if own.kind == "time":
        schema["format"] = "date-time"
    if own.schema.get("type"):
        schema["type"] = [own.schema["type"]]
    if own.nullable:
        schema["type"] = [*schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def example_of(own: Field) -> Any:
    """A value that the contract allows, as far as its limits tell."""
    if "enum" in own.schema:
        return own.schema["enum"][0]
    if own.kind != "number":
        least = own.schema.get("minLength", 0)
        text = "a category"
        return text[: own.schema.get("maxLength", len(text))].ljust(least, "x")
    low, high = own.schema.get("minimum"), own.schema.get("maximum")
    known = [bound for bound in (low, high) if bound is not None]
    value = sum(known) / len(known) if known else 1.5
    return int(value) if own.schema.get("type") == "integer" or value == int(value) else value


SCHEMAS: dict[str, Any] = {
    "Status": {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]},
    "Ready": {
        "type": "object",
        "properties": {
            "status": {"enum": ["ready", "degraded", "not ready"]},
            "models": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
            "problems": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["status", "models", "problems"],
    },
    "Model": {"type": "object", "properties": {"model": {"type": "string"}}, "required": ["model"]},
    "Models": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
    "Problem": {
        "type": "object",
        "description": "RFC 9457",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "request_id": {"type": "string"},
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "row": {"type": "integer"},
                        "field": {"type": "string"},
                        "value": {},
                        "problem": {"type": "string"},
                    },
                    "required": ["field", "problem"],
                },
            },
        },
        "required": ["type", "title", "status", "detail"],
    },
}
