"""The columns that a model learns from."""

from typing import Any, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from configs.base import Strict


class Features(Strict):
    """The model's inputs. Numbers are float64, categories strings; null is allowed in both."""

    numeric: tuple[str, ...] = Field((), description="columns of numbers or booleans; null is allowed")
    categorical: tuple[str, ...] = Field((), description="columns of text; null is allowed")
    retired: tuple[str, ...] = Field(
        (), description="those of them that new versions do without, while a version in use still needs them"
    )
    whole: tuple[str, ...] = Field(
        (), description="numeric ones whose values are whole numbers: serving refuses 1.5 for them"
    )

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that some version may need."""
        return self.numeric + self.categorical

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The same by kind: its digest goes into the records of what is made of all of them."""
        return {"numeric": self.numeric, "categorical": self.categorical}

    @property
    def learned(self) -> "Features":
        """What new versions are fitted with."""
        kept = (tuple(n for n in names if n not in self.retired) for names in (self.numeric, self.categorical))
        numeric, categorical = kept
        return Features(numeric=numeric, categorical=categorical)

    @model_serializer(mode="wrap")
    def _as_before(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of which there are none, so that what was made before they existed is not stale."""
        found: dict[str, Any] = written(self)
        return {name: value for name, value in found.items() if value or name not in ("retired", "whole")}

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        twice = sorted({name for name in self.all if self.all.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        if strange := sorted(set(self.retired) - set(self.all)):
            raise ValueError(
                f"retired: {', '.join(strange)} is no feature; take it out when no version in use needs it"
            )
        if strange := sorted(set(self.whole) - set(self.numeric)):
            raise ValueError(f"whole: {', '.join(strange)} is no numeric feature")
        if set(self.all) <= set(self.retired):
            raise ValueError("a model needs at least one feature")
        return self
