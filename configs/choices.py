"""Parameter types for the forms in the Prefect UI: choices that come from the folders, looked up when a form is made."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

from configs.load import model_names


class _Choice:
    """Shows the models of this repository as choices."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "type": "string", "enum": model_names()}


def _exists(name: str) -> str:
    known = model_names()
    if name not in known:
        raise ValueError(f"there is no model {name!r}; there are: {', '.join(known) or 'none yet'}")
    return name


ModelName = Annotated[str, AfterValidator(_exists), _Choice()]
NonEmpty = Annotated[str, Field(min_length=1)]
VersionNumber = Annotated[
    str, BeforeValidator(str), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "title": "Version"})
]
"""A version's number as text, as MLflow has it; `-p version=3` on the command line is read as a number."""
