"""Pages of the site that are not files of docs/, and links to them.

The documentation is written for GitHub: its links go to files of the repository. On the site, the
README is a page; so is every file and folder outside docs/ that a page links to (source/), and
every notebook. The reference has every public name of both packages, and is made here.
"""

from __future__ import annotations

import ast
import posixpath
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")
FENCE = re.compile(r"(^ *(```|~~~).*?^ *\2[`~]*$)", re.S | re.M)
LEXERS = {".py": "python", ".sh": "bash", ".toml": "toml"}
RENAMED = {"README.md": "index.md", "docs/README.md": "pages.md"}
"""Pages of the site, by their files in the repository, that have another name there."""
ROOMS = {
    "estimators": "Estimators: they make the passes and write `.grad`.",
    "rules": "Rules: from a record of passes to credit.",
    "systems": "Devices, chips, and modules made of layers.",
    "core": "Losses, noise, nodes, checks, errors and types.",
    "run": "Plug-ins.",
}


def on_config(config: Any) -> Any:
    """Let the reference find both packages of this repository, without installing them."""
    names = tempfile.mkdtemp()  # envs/ is noisynets_envs
    Path(names, "noisynets_envs").symlink_to(ROOT / "envs")
    handlers = config.plugins["mkdocstrings"].config.handlers
    handlers["python"]["paths"] = [str(ROOT), names]
    options = handlers["python"]["options"]
    options["extensions"] = [str(ROOT / path) for path in options["extensions"]]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the README, the reference, the notebooks, and what pages link to outside docs/."""
    pages = {page: (ROOT / path).read_text() for path, page in RENAMED.items()} | reference()
    files.remove(files.src_uris["README.md"])
    for file in sorted((ROOT / "docs").rglob("*.ipynb")):
        text, pictures = notebook(file)
        pages[page_of(file.relative_to(ROOT).as_posix())] = text
        for name, data in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=data))
    texts = {file.src_uri: file.content_string for file in files.documentation_pages()}
    texts |= {page: text for page, text in pages.items() if not page.startswith("reference/")}
    linked = {at for page, text in texts.items() for at in targets(text, in_repository(page))}
    for at in sorted(linked):
        if not at.startswith("docs/") and at not in RENAMED:
            pages[page_of(at)] = source(at)
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Return a page whose links go to pages of the site."""
    here = page.file.src_uri
    if here.startswith("reference/"):
        return markdown
    return relinked(markdown, in_repository(here), here)


def relinked(text: str, at: str, here: str) -> str:
    """Return a text with links to pages of the site in place of files of the repository.

    Args:
        text: Markdown, with links relative to the file.
        at: the file's path in the repository.
        here: the page's path on the site.
    """

    def link(match: re.Match[str]) -> str:
        there = page_of(resolved(match[2], at))
        return match[1] + posixpath.relpath(there, posixpath.dirname(here) or ".")

    parts = FENCE.split(text)
    return "".join(  # the pattern has two groups: text, fence, its mark, text...
        LINK.sub(link, part) if i % 3 == 0 else part for i, part in enumerate(parts) if i % 3 < 2
    )


def targets(text: str, at: str) -> Iterator[str]:
    """Yield the paths in the repository of what a file links to."""
    for i, part in enumerate(FENCE.split(text)):
        if i % 3 == 0:
            yield from (resolved(match[2], at) for match in LINK.finditer(part))


def resolved(target: str, at: str) -> str:
    """Return the path in the repository of a link's target."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(at), target))


def page_of(path: str) -> str:
    """Return the page that shows a file or folder of the repository.

    >>> page_of("docs/how-to/rules.md"), page_of("README.md"), page_of("examples/own_box.py")
    ('how-to/rules.md', 'index.md', 'source/examples/own_box.py.md')
    """
    if path in RENAMED:
        return RENAMED[path]
    if path.startswith("docs/"):
        return re.sub(r"\.ipynb$", ".md", path.removeprefix("docs/"))
    if (ROOT / path).is_dir():
        return f"source/{path}/index.md"
    return f"source/{path}" if path.endswith(".md") else f"source/{path}.md"


def in_repository(page: str) -> str:
    """Return the path in the repository of a page's file."""
    for path, renamed in RENAMED.items():
        if page == renamed:
            return path
    if page.startswith("source/"):
        return page.removeprefix("source/")
    notebook = f"docs/{page.removesuffix('.md')}.ipynb"
    return notebook if (ROOT / notebook).exists() else f"docs/{page}"


def notebook(file: Path) -> tuple[str, dict[str, bytes]]:
    """Return a notebook, with its stored outputs, as Markdown, and its pictures by their names."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(
        str(file), resources={"unique_key": file.stem, "output_files_dir": "."}
    )
    return text, {posixpath.normpath(name): data for name, data in resources["outputs"].items()}


def source(path: str) -> str:
    """Return the page of a file or folder outside docs/."""
    file, head = ROOT / path, "---\nsearch:\n  exclude: true\n---\n"
    if file.is_dir():
        modules = sorted(f for f in file.iterdir() if f.suffix in (".py", ".toml", ".md"))
        rows = [f"- `{f.name}`: {summary(f)}" for f in modules if f.name != "__init__.py"]
        return f"{head}# `{path}/`\n\n" + "\n".join(rows) + "\n"
    if file.suffix == ".md":
        return head + file.read_text()
    language = LEXERS.get(file.suffix, "text")
    return f"{head}# `{path}`\n\n~~~~~~{language}\n{file.read_text()}~~~~~~\n"


def summary(file: Path) -> str:
    """Return the first line of a module's docstring."""
    if file.suffix != ".py":
        return file.suffix.removeprefix(".").upper()
    return (ast.get_docstring(ast.parse(file.read_text())) or "").partition("\n")[0]


def reference() -> dict[str, str]:
    """Return the pages of the reference, by their names: every public name of both packages."""
    rooms = public(ROOT / "noisynets" / "__init__.py")
    envs = public(ROOT / "envs" / "__init__.py")
    pages = {
        f"reference/{room}.md": listing(f"`noisynets`: {room}", about, "noisynets", rooms[room])
        for room, about in ROOMS.items()
    }
    assert sorted(rooms) == sorted(ROOMS), "each room with public names has a page"
    about = "Gymnasium environments with noise, delays and sensors."
    names = sorted(name for group in envs.values() for name in group)
    pages["reference/envs.md"] = listing("`noisynets_envs`", about, "noisynets_envs", names)
    links = [
        f"- [{room}]({room}.md): "
        + ", ".join(f"[`{name}`]({room}.md#noisynets.{name})" for name in rooms[room])
        for room in ROOMS
    ]
    links += [
        "- [environments](envs.md): "
        + ", ".join(f"[`{name}`](envs.md#noisynets_envs.{name})" for name in names)
    ]
    text = "# Reference\n\nEvery public name, with its arguments, shapes, units and source.\n\n"
    return {**pages, "reference/index.md": text + "\n".join(links) + "\n"}


def listing(title: str, about: str, package: str, names: list[str]) -> str:
    """Return a page of the reference."""
    return f"# {title}\n\n{about}\n\n" + "\n".join(f"::: {package}.{name}\n" for name in names)


def public(init: Path) -> dict[str, list[str]]:
    """Return the names of `__all__`, by the room that they are imported from.

    Args:
        init: an `__init__.py` that imports each public name by `from ... import`.
    """
    tree = ast.parse(init.read_text())
    (names,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    homes = {
        alias.name: (node.module or "").split(".")[min(1, node.module.count("."))]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return {
        room: sorted(name for name in names if homes[name] == room)
        for room in sorted({homes[name] for name in names})
    }
