"""The public API as lines of text, read from the source by griffe; ``python tests/api.py`` writes api.txt again."""

import re
from pathlib import Path

import griffe

ROOT, FILE = Path(__file__).parents[1], Path(__file__).with_name("api.txt")


def public_lines():
    """One line for each public function, class, method and attribute of a class, with its signature."""
    package = griffe.load("mtattn", search_paths=[ROOT], resolve_aliases=True)
    modules = [package, *(module for _, module in sorted(package.modules.items()) if not module.name.startswith("_"))]
    return [line for module in modules for name in sorted(module.exports or ()) for line in described(module, name)]


def described(module, name):
    path, member = f"{module.path}.{name}", module.members.get(str(name))
    if member is None:  # a module, loaded on first use
        return [path]
    target = member.final_target if member.is_alias else member
    if target.is_function:
        return [signature(target, path)]
    if not target.is_class:
        return [path]
    lines = [signature(target, path)]
    inherited = {name: m.final_target for name, m in target.inherited_members.items() if is_only_here(m.final_target)}
    for inner, of_class in sorted({**inherited, **target.members}.items()):
        if inner.startswith("_") or of_class.is_alias or of_class.is_module:
            continue
        lines.append(signature(of_class, f"{path}.{inner}") if of_class.is_function else f"{path}.{inner}")
    return lines


def is_only_here(member):
    """Tell whether a member comes from a class of ours that is not public itself, so that no other line shows it."""
    private = member.module.name.startswith("_")
    return (
        member.path.startswith("mtattn.")
        and not private
        and member.parent.name not in (member.module.parent.exports or ())
    )


def signature(target, path):
    text = re.sub(r"\s+", " ", target.signature(return_type=True))
    return text.replace(target.name, path, 1) if text.startswith(target.name) else f"{path}{text[text.find('(') :]}"


if __name__ == "__main__":
    FILE.write_text("\n".join(public_lines()) + "\n", encoding="utf-8")
    print(f"{FILE}: {len(FILE.read_text(encoding='utf-8').splitlines())} lines")
