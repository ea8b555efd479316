"""The OpenAPI document: a path for each model, with the types and limits of its columns and an example row."""

from typing import Any

from configs.features import LARGEST_NUMBER
from serving.contract import Contract, contract_of
from serving.follower import Follower
from serving.problems import MEDIA_TYPE
from serving.values import Field
from serving.versions import class_names

# Not pydantic's JSON schema: its models have no `not` and refuse regular expressions with look-around.
# For the responses alone it would save 4 of 60 lines and take 70 ms more at the start.
TYPES = {"number": ["number"], "text": ["string"], "key": ["string", "integer"], "time": ["string"]}
VALUES = """\
A value means the same as in a partition of a batch:
- A number is a float64. A whole number beyond 2^53 that float64 does not have is refused.
- Infinities, and numbers above float32's (3.40282e+38), are refused.
- `true` is 1 and `false` is 0.
- JSON's `NaN` is null. In CSV an empty field is null, and so is `NaN` in a column of numbers; in a column of texts it is a text.
- A text may have any length within the limit of the body.
- If a JSON object has a name twice, its last value counts. Columns that CSV or `dataframe_split` name twice are refused.

A body with a `Content-Encoding` (gzip) is refused with 415."""
PROBLEMS = {
    "400": "The body cannot be read or is not a scoring request",
    "401": "A token is required",
    "404": "No such model",
    "408": "The body did not arrive in time",
    "413": "Too many bytes or rows",
    "415": "Neither JSON nor CSV in UTF-8, or a compressed body",
    "422": "Invalid rows; `errors` names row, field and value",
    "503": "No version serves this model, or predictions cannot be recorded",
}


def openapi_document(follower: Follower) -> dict[str, Any]:
    """Build the OpenAPI document for the versions in use now."""
    probes = ("/health", "/ready", "/metrics")
    paths: dict[str, Any] = {
        "/health": {"get": _simple("Whether the process responds", "Status")},
        "/ready": {"get": _simple("Whether the server is ready, the versions in use, and problems", "Ready", ("503",))},
        "/models": {"get": _simple("All models with the versions in use", "Models")},
        "/metrics": {"get": _metrics()},
    }
    for name, state in dict(follower.states).items():
        paths[f"/models/{name}"] = {"get": _simple(f"The versions in use for {name}", "Model")}
        if name not in follower.resources:
            continue
        config = follower.resources[name].config
        contract = state.champion.contract if state.champion else contract_of(config, config.features.active)
        invocations = _invocations(name, config.description, contract, class_names(config))
        paths[f"/models/{name}/invocations"] = {"post": invocations}
    for path in probes:
        responses = {status: {"description": "The same, without a body"} for status in paths[path]["get"]["responses"]}
        paths[path]["head"] = {"summary": "The status of GET, without a body", "responses": responses}
    for path, methods in paths.items():
        for operation in methods.values():
            operation["tags"] = [path.split("/")[2] if path.startswith("/models/") else "server"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Evergreen serving",
            "version": "1",
            "description": "Predictions of each model's champion, in MLflow's scoring protocol.",
        },
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }


def _simple(summary: str, schema: str, other_statuses: tuple[str, ...] = ()) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    responses = {"200": {"description": summary, "content": content}}
    responses |= {status: {"description": "The same, but not ready", "content": content} for status in other_statuses}
    return {"summary": summary, "responses": responses | _problems("401")}


def _metrics() -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    responses = {"200": {"description": "Prometheus' text format", "content": content}}
    return {"summary": "Metrics for Prometheus", "responses": responses | _problems("401")}


def _problems(*statuses: str) -> dict[str, Any]:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}


def _invocations(name: str, description: str, contract: Contract, classes: list[str]) -> dict[str, Any]:
    fields = list(contract.fields.values())
    required = [field.name for field in fields if field.required]
    row = {
        "type": "object",
        "properties": {field.name: field_schema(field) for field in fields},
        "required": required,
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": row, "minItems": 1}
    # Without key, so that the example is joined with no outcome.
    example = {field.name: example_of(field) for field in fields if field.required}
    split = {"columns": list(example), "data": [list(example.values())]}
    forms = {
        "dataframe_split": {
            "type": "object",
            "required": ["columns", "data"],
            "properties": {
                "columns": {"type": "array", "items": {"enum": [field.name for field in fields]}, "uniqueItems": True},
                "data": {"type": "array", "items": {"type": "array"}, "minItems": 1},
                "index": {},
            },
            "additionalProperties": False,
        },
        "dataframe_records": rows,
        "instances": rows,
        "inputs": {
            "type": "object",
            "properties": {
                field.name: {"type": "array", "items": field_schema(field), "minItems": 1} for field in fields
            },
            "required": required,
            "additionalProperties": False,
        },
    }
    bodies = [
        {"type": "object", "properties": {form: schema, "params": {"type": "object", "maxProperties": 0}}, "required": [form],
         "additionalProperties": False}
        for form, schema in forms.items()
    ]  # fmt: skip
    predictions: dict[str, Any] = {"type": "number"}
    if classes:
        predictions = {"type": "array", "items": predictions, "description": f"probabilities of {', '.join(classes)}"}
    line = ",".join(example), ",".join("" if value is None else str(value) for value in example.values())
    return {
        "summary": f"Predictions of {name}",
        "description": f"{description.strip()}\n\nThe key identifies a row permanently: outcomes are joined by it. "
        f"A row without key or time gets those of the request.\n\n{VALUES}",
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
                "description": "A prediction for each row, and the versions that made them",
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
                "description": "the version of each row, if a canary predicted some of them",
            },
            "as_of": {
                "type": "string",
                "format": "date-time",
                "description": "the point in time (as-of) of the champion's promotion",
            },
            "request_id": {"type": "string"},
        },
    }


def field_schema(field: Field) -> dict[str, Any]:
    """Return a field as JSON Schema, with null if it is allowed."""
    schema: dict[str, Any] = {"type": TYPES[field.kind], **field.schema}
    if field.kind == "time":
        schema["format"] = "date-time"
    if own_type := field.schema.get("type"):
        schema["type"] = ["boolean", "number"] if own_type == "boolean" else [own_type]
    if field.kind == "number" and "enum" not in schema:
        schema = {"minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER} | schema
    if field.nullable:
        schema["type"] = [*schema["type"], "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def example_of(field: Field) -> Any:
    """Return a value within the limits of a field. It may violate patterns, which are not considered."""
    if "enum" in field.schema:
        return field.schema["enum"][0]
    if field.kind != "number":
        min_length = field.schema.get("minLength", 0)
        text = "a category"
        return text[: field.schema.get("maxLength", len(text))].ljust(min_length, "x")
    if field.schema.get("type") == "boolean":
        return True
    low, high = field.schema.get("minimum"), field.schema.get("maximum")
    bounds = [bound for bound in (low, high) if bound is not None]
    value = sum(bounds) / len(bounds) if bounds else 1.5
    return int(value) if field.schema.get("type") == "integer" or value == int(value) else value


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
