"""Types of flow parameters. The Prefect UI builds its forms from them, with the existing models as choices."""

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

from configs.load import model_names


class _Choice:
    """Adds the models of this repository to the JSON schema as choices."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "type": "string", "enum": model_names()}


def _exists(name: str) -> str:
    names = model_names()
    if name not in names:
        raise ValueError(f"there is no model {name!r}; there are: {', '.join(names) or 'none yet'}")
    return name


ModelName = Annotated[str, AfterValidator(_exists), _Choice()]
NonEmpty = Annotated[str, Field(min_length=1)]
VersionNumber = Annotated[
    str, BeforeValidator(str), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}], "title": "Version"})
]
"""A version number as text, as in MLflow. The command line reads `-p version=3` as a number."""
