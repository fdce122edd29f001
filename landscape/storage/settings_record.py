"""Records of settings: types, ranges and help stand in the fields, and from them come checks, schema and options."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import Annotated, Any, TypeVar, cast, dataclass_transform

from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass as checked_dataclass
from pydantic_core import CoreSchema, core_schema

from landscape.checks import require

Count = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=0)]  # 0 leaves it out
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
ANY = GetPydanticSchema(lambda _source, _handler: core_schema.any_schema())  # of a value that is not looked at
Record = TypeVar("Record")
CONFIG = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)
KINDS = {"number": "a number", "string": "text", "boolean": "true or false", "object": "a mapping", "array": "a list"}


@dataclass(frozen=True)
class OneOf:
    """`Annotated[str, OneOf(names)]`: a string among `names`; with a colon in it where `other` says what that is."""

    names: Collection[str]
    other: str = ""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        named = core_schema.literal_schema(list(self.names))
        return core_schema.union_schema([named, core_schema.str_schema(pattern=":")]) if self.other else named

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        named = {"enum": list(self.names)}
        if self.other:
            return {"type": "string", "anyOf": [named, {"pattern": ":", "description": self.other}]}
        return {**named, "type": "string"}


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def settings_record(cls: type[Record]) -> type[Record]:
    """A frozen dataclass whose fields are checked when it is made; a mistake is a ValueError of one line.

    The string below a field is its help. All of them end up in the class's docstring too.
    """
    made: Any = checked_dataclass(frozen=True, config=CONFIG)(cls)
    check = made.__init__

    @wraps(check)
    def init(self: Any, *values: Any, **settings: Any) -> None:
        try:
            check(self, *values, **settings)
        except ValidationError as error:
            given = dict(zip((item.name for item in fields(made)), values, strict=False)) | settings
            raise ValueError(_line(made, error, given)) from error

    made.__init__ = init
    said = [f"    {name}: {item.description}" for name, item in made.__pydantic_fields__.items()]
    made.__doc__ = "\n".join([f"{cls.__doc__}\n\nAttributes:", *said])
    return cast(type[Record], made)


def from_settings(cls: type[Record], content: object, where: object, **changes: Any) -> Record:
    """The record that a file's names and values describe.

    Args:
        cls: made by `settings_record`.
        content: as it was read.
        where: what it was read from, for the message.
        changes: settings that replace the file's.
    Raises:
        ValueError: if a name is unknown, or a value of the wrong type or out of range.
    """
    names = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    require(isinstance(content, Mapping), f"{where} must hold names and values, got {content!r}")
    unknown = ", ".join(sorted(str(name) for name in content if name not in names))  # type: ignore[attr-defined]
    require(not unknown, f"{where} must hold the names {', '.join(names)}, got {unknown}")
    try:
        return cls(**{**content, **changes})  # type: ignore[dict-item]
    except ValueError as error:
        own = str(error).split()[0] in changes  # messages begin with the setting's name
        raise ValueError(f"{error}" if own else f"{where}: {error}") from error


def schema_of(cls: type) -> dict[str, Any]:
    """The JSON schema of a record."""
    schema = TypeAdapter(cls).json_schema()
    return {**schema, "description": schema["description"].partition("\n")[0]}


def _line(cls: type, error: ValidationError, given: Mapping[str, Any]) -> str:
    """What the first mistake is."""
    first = min(error.errors(), key=lambda found: found["type"].startswith("missing"))
    kind, place = first["type"], first["loc"]
    if kind == "value_error":  # of `__post_init__`
        return str(first["ctx"]["error"])
    name = str(place[0]) if place else ""
    properties = schema_of(cls)["properties"]
    if name not in properties:
        return f"settings of {cls.__name__} must be among {', '.join(properties)}, got {name}"
    if name not in given:
        return f"{name} must be given, got none"
    expected = KINDS["number"] if kind == "float_type" else _words(properties[name])
    return f"{name} must be {expected}, got {given[name]!r}"


def _words(schema: Mapping[str, Any]) -> str:
    """What a value must be."""
    match schema:
        case {"enum": names}:
            return f"one of {' | '.join(repr(name) for name in names)}"
        case {"pattern": _, "description": form}:
            return str(form)
        case {"anyOf": kinds}:
            return " or ".join(dict.fromkeys(_words(kind) for kind in kinds))
        case {"type": "array", "items": inside} if inside:
            return f"a list of which each is {_words(inside)}{', at least one' * schema.get('minItems', 0)}"
        case {"type": "object", "additionalProperties": dict() as inside} if inside:
            return f"a mapping of which each is {_words(inside)}"
        case {"type": "integer"}:
            return f"an integer {_span(schema)}".rstrip()
        case {"type": "number"} if _span(schema):
            return {"at least 0": "finite and at least 0"}.get(_span(schema), _span(schema))
        case {"type": kind}:
            return KINDS.get(kind, str(kind))
    return f"a record {schema.get('$ref', '').rpartition('/')[2]}".rstrip()


def _span(schema: Mapping[str, Any]) -> str:
    low, high = (schema.get(key, schema.get(f"exclusive{key.title()}")) for key in ("minimum", "maximum"))
    if high is not None:
        return f"in {'[' if 'minimum' in schema else '('}{low}, {high}{']' if 'maximum' in schema else ')'}"
    if low is None:
        return ""
    return f"at least {low}" if "minimum" in schema else "positive and finite"
