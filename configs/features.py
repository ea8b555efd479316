"""The features of a model."""

from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from configs.base import Strict

LARGEST_NUMBER = 3.4028234663852886e38
"""The largest number of float32, in which XGBoost and forests compute. A larger feature or outcome cannot be learned from or scored."""


class Features(Strict):
    """The model's features. Numbers are float64 and categories are strings. Both may be null."""

    numeric: tuple[str, ...] = Field((), description="columns of numbers or booleans; null is allowed")
    categorical: tuple[str, ...] = Field((), description="columns of text; null is allowed")
    retired: tuple[str, ...] = Field((), description="features that new versions leave out, but a version in use needs")
    whole: tuple[str, ...] = Field((), description="numeric features with whole numbers only: serving refuses 1.5")

    @property
    def all(self) -> tuple[str, ...]:
        """All features, retired ones included."""
        return self.numeric + self.categorical

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """All features by kind. The digest of this mapping is part of records."""
        return {"numeric": self.numeric, "categorical": self.categorical}

    @property
    def active(self) -> "Features":
        """The features of new versions: all except the retired ones."""
        numeric, categorical = (
            tuple(n for n in names if n not in self.retired) for names in (self.numeric, self.categorical)
        )
        return Features(numeric=numeric, categorical=categorical)

    @model_serializer(mode="wrap")
    def _omit_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `retired` and `whole` if empty, so that digests are those of records from before these keys existed."""
        content: dict[str, Any] = serialize(self)
        return {name: value for name, value in content.items() if value or name not in ("retired", "whole")}

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        duplicates = sorted({name for name in self.all if self.all.count(name) > 1})
        if duplicates:
            raise ValueError(f"named twice: {', '.join(duplicates)}")
        if unknown := sorted(set(self.retired) - set(self.all)):
            raise ValueError(
                f"retired: {', '.join(unknown)} is not a feature; list it in numeric or categorical too, or remove it from retired"
            )
        if unknown := sorted(set(self.whole) - set(self.numeric)):
            raise ValueError(f"whole: {', '.join(unknown)} is not a numeric feature")
        if set(self.all) <= set(self.retired):
            raise ValueError("a model needs at least one feature")
        return self
