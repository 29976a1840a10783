"""The pages of the documentation: links that are checked, a reference that is current, a site that has every page."""

import importlib.util
import re

import pytest
from toys import ROOT

from tools import reference


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_links, site = script("check_links"), script("site")


def test_no_link_of_ours_is_dead():
    assert check_links.dead_links(ROOT) == []


def test_dead_links_are_seen(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text(
        '# A `b` c\n\n## Same\n\n## Same\n\n<a id="own"></a>\n\n```\n# no heading\n[x](no.md)\n```\n'
    )
    fine = "[x](docs/a.md#a-b-c) [x](docs/a.md#same-1) [x](docs/a.md#own) [x](docs) [x](https://nowhere.example) [x](#top)"
    (tmp_path / "README.md").write_text(f"# Top\n\n{fine}\n")
    assert check_links.dead_links(tmp_path) == []
    (tmp_path / "README.md").write_text("[x](docs/b.md) [x](docs/a.md#no-heading) [x](#top)\n")
    assert check_links.dead_links(tmp_path) == [
        "README.md: docs/b.md: there is no such file",
        "README.md: docs/a.md#no-heading: there is no such heading",
        "README.md: #top: there is no such heading",
    ]


@pytest.mark.parametrize(
    ("page", "link", "in_site"),
    [
        ("README.md", "[x](docs/data.md#your-own-images)", "[x](data.md#your-own-images)"),
        ("README.md", "[x](CONTRIBUTING.md)", "[x](contributing.md)"),
        ("README.md", "[goldens](tests/golden)", "goldens"),
        ("docs/dpl.md", "[code](../prompts/parts/dpl_text.py)", "code"),
        ("docs/faq.md", "[x](../README.md#methods)", "[x](index.md#methods)"),
        ("docs/faq.md", "[x](data.md)", "[x](data.md)"),
        ("docs/faq.md", "[x](#here) [y](https://a.example/b)", "[x](#here) [y](https://a.example/b)"),
        ("docs/faq.md", "[x](../nothing.md)", "[x](../nothing.md)"),  # for mkdocs to report
    ],
)
def test_links_in_the_site(page, link, in_site):
    assert site.for_site(link, page) == in_site


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text()
    listed = set(re.findall(r": (\w+\.md)$", text[text.index("\nnav:") :], re.M))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")} | {"index.md", "contributing.md"}


def test_the_reference_is_current():
    for name, text in reference.pages().items():
        assert text == (reference.DOCS / name).read_text(), "python -m tools.reference writes it anew"


def test_the_reference_has_every_key_and_option():
    text = "".join(reference.pages().values())
    for name in set(reference.KEYS) - {"features", "poly", "multistep"}:
        assert f"| `{name}` |" in text
    for group in reference.WITH_KEYS:
        assert all(f"### {group}={path.stem}\n" in text for path in reference.options(group) if path.stem[0] != "_")
    assert "| `method.n_ctx` | `16` | an integer |" in text


def test_lines_of_a_yaml_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "# What it is.\n#   python run.py data=a       and more\ndefaults: [_base, _self_]\na: 1  # one\nb:\n  c: '#x'\n"
        "d: null    # two\n              # lines\n"
    )
    lines = [(line.key, line.value, line.remark) for line in reference.lines_of(path)]
    assert lines == [("a", "1", "one"), ("b", "", ""), ("b.c", "'#x'", ""), ("d", "null", "two lines")]
    assert reference.leading(path) == ("What it is.", ["python run.py data=a"])
    (tmp_path / "_base.yaml").touch()
    assert reference.parents(path) == [tmp_path / "_base.yaml"]


def test_questions_name_commands():
    text = (ROOT / "docs/faq.md").read_text()
    questions = re.split(r"^## ", text, flags=re.M)[1:]
    assert len(questions) >= 20
    assert not [question.splitlines()[0] for question in questions if not re.search(r"    python |`python ", question)]
