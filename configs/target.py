"""Schema of `target:` in model.yaml: the outcome, its classes, its loss, and when it is known."""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from configs.base import Duration, Name, Strict
from configs.kinds import LOSSES, Kind, Loss


def class_name(value: Any) -> Any:
    """Return a whole number as text. YAML reads an unquoted yes, no, on or off as a boolean, which is no class."""
    if isinstance(value, bool):
        raise ValueError("YAML reads yes, no, on, off, true and false as booleans; put the class in quotation marks")
    return str(value) if isinstance(value, int) else value


ClassName = Annotated[
    str, BeforeValidator(class_name), WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]})
]


class Target(Strict):
    """The target, and the label delay."""

    column: Name = Field(description="name of the outcome column")
    kind: Kind = Field(
        "binary",
        description="binary (0 or 1, true or false), multiclass (text or whole numbers) or regression (a number)",
    )
    classes: tuple[ClassName, ...] = Field(
        (), description="multiclass: all classes, in the order of the probabilities; whole numbers are read as text"
    )
    loss: Loss | None = Field(None, description="loss for comparisons; regression: squared_error or absolute_error")
    delay: Duration = Field(description="label delay: time from the prediction until the outcome is known")
    max_bad_share: float = Field(
        0.01, ge=0, le=1, description="share of invalid labels above which the partition's labels are blocked"
    )

    @property
    def eval_loss(self) -> Loss:
        """The loss by which models are compared."""
        return self.loss or LOSSES[self.kind][0]

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if duplicates := sorted({name for name in self.classes if self.classes.count(name) > 1}):
            raise ValueError(f"classes: named twice: {', '.join(duplicates)}")
        if self.kind == "multiclass" and len(self.classes) < 3:
            raise ValueError("a multiclass target needs `classes`, at least three of them")
        if self.kind != "multiclass" and self.classes:
            raise ValueError(f"`classes` is for multiclass targets, this one is {self.kind}")
        if self.eval_loss not in LOSSES[self.kind]:
            raise ValueError(
                f"the loss of a {self.kind} target must be {' or '.join(LOSSES[self.kind])}, not {self.loss}"
            )
        return self
