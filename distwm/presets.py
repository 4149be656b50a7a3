"""YAML presets: where they are, and reading them as text that the types of the configuration give a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from distwm.overrides import nest
from replay.errors import BadInput

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


class _TextLoader(yaml.BaseLoader):
    """Leaves every scalar as it is typed, so that YAML and the command line mean the same by `3e-4`, `off` or `no`.

    Aliases and repeated keys are refused: the first can hide a bomb, the second a setting.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"line {self.peek_event().start_mark.line + 1}: aliases are not used here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a key is there twice")
        return mapping


def recipe_path(recipe: str) -> Path:
    """The file of a recipe: configs/<name>.yaml, or the path itself. Raises BadInput, naming the recipes there are."""
    path = Path(recipe) if recipe.endswith((".yaml", ".yml")) else CONFIGS / f"{recipe}.yaml"
    if path.is_file():
        return path
    raise BadInput(f"There is no recipe {recipe!r}.", f"Use {_names('*.yaml')} or the path of a YAML file.")


def collection_path(name: str) -> Path:
    """collect/<name>.yaml: the settings of a collection that has a name. Raises BadInput, naming those there are."""
    path = CONFIGS / "collect" / f"{name}.yaml"
    if path.is_file():
        return path
    raise BadInput(
        f"{name!r} is neither a task nor a setting nor a collection.",
        f"Write SUITE/TASK, key=value, or one of: {_names('collect/*.yaml')}.",
    )


def size_path(recipe: Path, size: str) -> Path:
    """size/<recipe>_<size>.yaml beside the recipe. Raises BadInput, naming the sizes there are."""
    folder = recipe.parent / "size"
    path = folder / f"{recipe.stem}_{size}.yaml"
    if path.is_file():
        return path
    sizes = sorted(p.stem.removeprefix(f"{recipe.stem}_") for p in folder.glob(f"{recipe.stem}_*.yaml"))
    raise BadInput(f"{recipe.stem} has no size {size!r}.", f"Use size={' or size='.join(sizes)}.")


def read(path: Path) -> dict[str, Any]:
    """A YAML file as nested mappings of texts and lists of texts. Raises BadInput if it is not one."""
    try:
        loader = _TextLoader(path.read_text())
        tree = loader.get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {error}.", "Mend the file.") from error
    tree = {} if tree is None else tree
    if not isinstance(tree, Mapping):
        raise BadInput(f"{path} holds no settings.", "Write `key: value` lines.")
    return dict(tree)


def write(flat: Mapping[str, Any]) -> str:
    """Flat settings as YAML; tuples become lists."""
    plain = {key: _lists(value) for key, value in flat.items()}
    return yaml.safe_dump(nest(plain), sort_keys=False, default_flow_style=None, width=120)


def _lists(value: Any) -> Any:
    return [_lists(item) for item in value] if isinstance(value, tuple) else value


def _names(pattern: str) -> str:
    return ", ".join(sorted(path.stem for path in CONFIGS.glob(pattern)))
