"""Our chat templates against jinja2, set up as Transformers does it: the same text, or an error from both."""

from __future__ import annotations

import datetime
import json
import os
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jinja2
import jinja2.ext
import jinja2.sandbox
import jinja2.utils
import pytest

from edgekit.converters.text.chat_template import compile_template, find_chat_template
from edgekit.errors import EdgekitError, InvalidFile, TemplateError, UnsupportedModel
from edgekit.text import ChatTemplate

SHARED = (
    Path(os.environ.get("EDGEKIT_SHARED") or Path(__file__).resolve().parents[2].parent / "shared") / "data"
)
TEMPLATES = sorted(SHARED.glob("chat-templates/**/*.jinja"))
CONFORMANCE = sorted(SHARED.glob("conformance/jinja/*.json"))
NOW = datetime.datetime(2024, 7, 6, 9, 5, 3)

CONTEXT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  Hello <b>& 'you' \"there\"\n"},
        {"role": "assistant", "content": "Grüße, 世界 😀"},
    ],
    "tools": [{"name": "f", "parameters": {"type": "object", "n": 1.5, "none": None, "yes": True}}],
    "numbers": [3, 1, 2, 2.5, True, -7],
    "words": ["banana", "Apple", "cherry", "apple"],
    "people": [
        {"name": "Ann", "age": 41, "address": {"city": "Oslo"}},
        {"name": "bob", "age": 7, "address": {"city": "bern"}},
        {"name": "Cy", "age": 41, "address": {"city": "oslo"}},
        {"name": "Di", "address": {}},
    ],
    "tree": [{"n": 1, "kids": [{"n": 2, "kids": [{"n": 3, "kids": []}]}, {"n": 4, "kids": []}]}],
    "empty": [],
    "text": "The quick\tbrown fox, jumps-over (the) lazy  dog.\n\nSecond line\r\nthird",
    "unicode": "ÀÉÎ łŃ ЖЁ ΑΣΑ ½ ² ٣ 中\u200b\u00a0\u2028x",
    "mapping": {"b": 1, "a": [1, {"x": None}], "é": "ü", "items": "hidden", "1": 2, "get": 3},
    "big": 9007199254740993,
    "float": 1e-7,
    "none": None,
    "yes": True,
    "nil": None,
    "ab": "ab",
    "blank": "",
    "one": 1,
    "zero": 0,
    "minus": -3,
    "accented": "é世",
    "bos_token": "<s>",
}


def snippets() -> list[Any]:
    """Each line of the file is a template, by itself or with the text of its failure behind " !! "; a line
    that begins with ## is the title of those below it."""
    cases, title = [], ""
    path = Path(__file__).with_name("chat_template_snippets.txt")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        if line.startswith("## "):
            title = line[3:]
        elif line:
            source, _, failure = line.partition(" !! ")
            cases.append(pytest.param(source, failure or None, id=f"line {number}, {title}"))
    return cases


class Namespace(jinja2.utils.Namespace):
    def __init__(*args: Any, **kwargs: Any) -> None:
        self, attributes = args[0], dict(*args[1:], **kwargs)
        for name in attributes:
            Namespace.check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        Namespace.check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)

    @staticmethod
    def check(name: str) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(name)


class Generation(jinja2.ext.Extension):
    tags: ClassVar[set[str]] = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


def raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def reference_environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(
        raise_exception=raise_exception,
        strftime_now=NOW.strftime,
        namespace=Namespace,
    )
    return environment


REFERENCE = reference_environment()


class Failure(str):
    """A message; of jinja2's own errors all of it counts, of Python's only that there is one."""


def expected(source: str, context: Mapping[str, Any]) -> str:
    try:
        return REFERENCE.from_string(source).render(**context)
    except jinja2.TemplateError as error:
        own = isinstance(error, jinja2.UndefinedError) or type(error) is jinja2.TemplateError
        return Failure((error.message or "").replace("markupsafe.", "") if own else "")
    except Exception:
        return Failure("")


def render(source: str, context: Mapping[str, Any]) -> str:
    template = ChatTemplate.from_bytes(compile_template(source))
    return template.render({**context, "now": NOW.isoformat()})


def outcome(render: Callable[[], str]) -> str:
    try:
        return render()
    except (TemplateError, UnsupportedModel) as error:
        return Failure(error)


def is_refused(got: str) -> bool:
    """Whether the template uses what jinja2 has and we do not."""
    return isinstance(got, Failure) and "is not supported" in got


def assert_same(source: str, got: str, want: str) -> bool:
    """Whether there was text to compare."""
    assert isinstance(got, Failure) == isinstance(want, Failure), f"{source}: {got!r} for {want!r}"
    assert want in got if isinstance(want, Failure) else got == want, source
    return not isinstance(want, Failure)


@pytest.mark.parametrize(("source", "failure"), snippets())
def test_snippet(source: str, failure: str | None) -> None:
    got = outcome(partial(render, source, CONTEXT))
    assert_same(source, got, expected(source, CONTEXT))
    assert isinstance(got, Failure) == (failure is not None), got
    assert failure is None or failure in got


# ---- random expressions

ATOMS = (
    "one zero minus float ab accented blank nil yes missing words numbers mapping people empty text"
    " unicode big range(4)"
    " (one,'a') ['x',[one]] {'k':one} text.split() mapping.b people[0].name words|first"
    " words|map('upper')|list mapping.items()"
).split()
BINARY = [*"+ - * / // % ~ == != < <= > >= in and or".split(), "not in"]
SUFFIXES = (
    "|length |upper |string |list |join |join(',') |first |last |sort |reverse|list |tojson |int |float |abs"
    " |trim |default(7) |title |unique|list |max |min |sum |items|list |dictsort |capitalize"
    " [0] [-1] [1:] [::-1] ['k'] .k .strip() .split() .title() .items()|list .get('b')"
    " .upper() |e |safe"
    " |replace('a','b') |indent(1,true) |map('string')|join |select|list"
).split()
TESTS = "defined none string mapping sequence iterable number odd true boolean".split()


def expression(rng: random.Random, depth: int) -> str:
    kind = rng.randrange(6) if depth else 0
    if kind == 0:
        return rng.choice(ATOMS)
    inner = expression(rng, depth - 1)
    if kind in (1, 2):
        return f"({inner}){rng.choice(SUFFIXES)}"
    if kind == 3:
        return f"({inner}) is {rng.choice(TESTS)}"
    if kind == 4:
        return f"({inner} if {expression(rng, depth - 1)} else {expression(rng, depth - 1)})"
    return f"({inner}) {rng.choice(BINARY)} ({expression(rng, depth - 1)})"


def test_random_expressions() -> None:
    rng = random.Random(int(os.environ.get("EDGEKIT_SEED", "1")))
    n = int(os.environ.get("EDGEKIT_RANDOM_EXPRESSIONS", "3000"))
    rendered = 0
    for _ in range(n):
        source = "{{ " + expression(rng, 3) + " }}"
        got = outcome(partial(render, source, CONTEXT))
        if not is_refused(got):
            rendered += assert_same(source, got, expected(source, CONTEXT))
    assert rendered > n / 5


# ---- real templates

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Current weather <in> a 'city'",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name, e.g. Zürich"},
                "days": {"type": "integer", "default": 3},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "options": {"type": "object", "properties": {"wind": {"type": "boolean"}}},
            },
            "required": ["city"],
        },
    },
}


def call(arguments: Any, call_id: str = "abcdefghi") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


RESULT = message("tool", '{"t": 21}', name="get_weather", tool_call_id="abcdefghi")
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "empty": [],
    "user": [message("user", "Hi")],
    "system": [message("system", " Be brief.\n"), message("user", "Hi <b>& 'x'  ")],
    "turns": [
        message("system", "s"), message("user", "A"), message("assistant", "B\n"), message("user", "C 😀"),
        message("assistant", "  D "), message("user", "E"),
    ],
    "answered": [message("user", "A"), message("assistant", "B")],
    "parts": [
        message("user", [{"type": "text", "text": "see"}, {"type": "image"}, {"type": "text", "text": "it"}]),
        message("assistant", [{"type": "text", "text": "ok"}]),
        message("user", [{"type": "text", "text": "z"}]),
    ],
    "thinking": [
        message("user", "Q"), message("assistant", "<think>\nhm\n</think>\n\nanswer"), message("user", "R"),
        message("assistant", "x", reasoning_content="because"), message("user", "S"),
    ],
    "reasoning": [message("user", "Q"), message("assistant", "x", reasoning="why"), message("user", "R")],
    "tool": [
        message("system", "s"), message("user", "W?"),
        message("assistant", "", tool_calls=[call({"city": "Bern", "f": 1.5, "n": None, "l": [1, "a"]})]),
        RESULT, message("assistant", "21"), message("user", "thanks"),
    ],
    "tool string": [
        message("user", "W?"), message("assistant", None, tool_calls=[call('{"city": "Bern"}')]), RESULT,
    ],
    "two tools": [
        message("user", "W?"),
        message("assistant", "let me see", tool_calls=[call({"city": "a"}), call({"city": "b"})]),
        RESULT, RESULT, message("assistant", "done"),
    ],
    "order": [message("assistant", "x"), message("user", "y"), message("user", "z")],
    "late system": [message("user", "a"), message("system", "s"), message("user", "b")],
    "developer": [message("developer", "d"), message("user", "x")],
    "unknown role": [message("other", "x")],
    "no content": [{"role": "user"}],
    "none": [message("user", None)],
}  # fmt: skip
OPTIONS: list[dict[str, Any]] = [
    {},
    {"tools": [TOOL]},
    {"add_generation_prompt": True},
    {"tools": [TOOL], "add_generation_prompt": True, "enable_thinking": True},
    {"add_generation_prompt": True, "enable_thinking": False, "date_string": "6 Jul 2024"},
    {"documents": [{"title": "T", "text": "body"}], "reasoning_effort": "high", "builtin_tools": ["python"]},
]


def transformers_context(messages: list[dict[str, Any]], options: Mapping[str, Any]) -> dict[str, Any]:
    """What Transformers adds to the caller's arguments."""
    aliased = []
    for each in messages:
        names = ("reasoning_content", "thinking", "reasoning")
        reasoning = next((each[name] for name in names if each.get(name) is not None), None)
        extra = {} if reasoning is None else {"reasoning_content": reasoning}
        aliased.append({**({} if reasoning is None else {"thinking": reasoning}), **each, **extra})
    defaults = {"tools": None, "documents": None, "add_generation_prompt": False}
    return {**defaults, "bos_token": "<bos>", "eos_token": "<eos>", "messages": aliased, **options}


@pytest.mark.skipif(not TEMPLATES, reason=f"no chat templates under {SHARED}")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_real_template(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    template = ChatTemplate.from_bytes(compile_template(source))
    for name, messages in CONVERSATIONS.items():
        for options in OPTIONS:
            given = {"bos_token": "<bos>", "eos_token": "<eos>", "messages": messages, **options}
            complete = transformers_context(messages, options)
            got = outcome(partial(template.render, {**given, "now": NOW.isoformat()}))
            assert_same(f"{path.name}: {name}, {options}", got, expected(source, complete))


@pytest.mark.skipif(not CONFORMANCE, reason=f"no jinja cases under {SHARED}")
@pytest.mark.parametrize("path", CONFORMANCE, ids=lambda path: path.stem)
def test_conformance(path: Path) -> None:
    cases = json.loads(path.read_text(encoding="utf-8"))
    rendered = refused = 0
    for case in cases:
        source = case.get("template") or case.get("chat_template")
        context = transformers_context([], {}) | (case.get("context") or case.get("data") or {})
        got = outcome(partial(render, source, context))
        if is_refused(got):
            refused += 1
        else:
            rendered += assert_same(source, got, expected(source, context))
    assert rendered > 0.8 * len(cases)
    assert refused <= 4


# ---- what is refused


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("a\n{% block x %}{% endblock %}", "line 2: 'Block' is not supported"),
        ("{% include 'x' %}", "line 1: 'Include'"),
        ("{% if x %}", "line 1: Unexpected end of template"),
        ("\n{{ x|wordwrap }}", "line 2: the filter 'wordwrap'"),
        ("{{ x is callable }}", "the test 'callable'"),
        ("{{ '%s' % x }}", "'%' of a string"),
        ("{{ m(**x) }}", "'*' or '**' in the arguments of a call"),
        ("{% for x in y recursive %}{% endfor %}", "a recursive loop"),
        ("{% for x in y %}{{ loop.cycle(1, 2) }}{% endfor %}", "'loop.cycle'"),
        ("{% macro m() %}{{ kwargs }}{% endmacro %}", "'kwargs'"),
        ("{{ 2 ** 3 }}", "'Pow'"),
        ("{{ x.encode() }}", "the method 'encode()'"),
        ("{{ 99999999999999999999 }}", "more than 64 bits"),
        ("{{ x|nothing }}", "No filter named 'nothing'"),
        ("{{ lipsum() }}", "'lipsum'"),
        ("{{ x|join(*y) }}", "'*' or '**'"),
        ("{{ 1e999 }}", "a constant cannot be stored"),
        ("{{ '\\ud800' }}", "a constant cannot be stored"),
        ("{% if x %}" * 90 + "{% endif %}" * 90, "nested too deeply"),
    ],
)
def test_refused_at_conversion(source: str, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=r"chat template") as error:
        compile_template(source)
    assert reason in str(error.value)


def test_error_messages() -> None:
    with pytest.raises(TemplateError) as error:
        render("{{ raise_exception('Roles must alternate!') }}", {})
    assert str(error.value) == "Roles must alternate!"
    with pytest.raises(TemplateError, match=r"line 2: 'nobody' is undefined"):
        render("\n{{ nobody.name }}", {})
    with pytest.raises(TemplateError, match=r"line 1: 'dict object' has no attribute 'x'"):
        render("{{ messages[0].x.y }}", CONTEXT)


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace(x='a') %}{% for i in range(64) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000000 }}",
        "{{ 'x'|indent(100000000000, true) }}",
        "{{ ('a' * 1000000)|replace('a', 'b' * 100000) }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% set n = namespace(g=[1]) %}{% for i in range(999) %}{% set n.g = n.g|map('int') %}{% endfor %}",
        "{{ 9223372036854775807 + 1 }}",
    ],
)
def test_limits(source: str) -> None:
    with pytest.raises(TemplateError):
        render(source, {})


def test_damaged_blobs() -> None:
    blob = compile_template("{% for m in messages %}{{ m.content|trim }}{% endfor %}")
    rng = random.Random(1)
    for _ in range(500):
        damaged = bytearray(blob)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        with suppress(EdgekitError):
            ChatTemplate.from_bytes(bytes(damaged)).render(CONTEXT)
    for end in range(len(blob)):
        with pytest.raises(InvalidFile):
            ChatTemplate.from_bytes(blob[:end])
    with pytest.raises(UnsupportedModel, match="version 2"):
        ChatTemplate.from_bytes(blob.replace(b'chat_template":1', b'chat_template":2'))


# ---- where checkpoints keep them


def write(directory: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


def test_find_chat_template(tmp_path: Path) -> None:
    assert find_chat_template(tmp_path) == {}
    write(tmp_path, {"tokenizer_config.json": json.dumps({"chat_template": "one"})})
    assert find_chat_template(tmp_path) == {"default": "one"}
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    write(tmp_path, {"tokenizer_config.json": json.dumps({"chat_template": named})})
    assert find_chat_template(tmp_path) == {"default": "d", "tool_use": "t"}
    write(tmp_path, {"chat_template.json": json.dumps({"chat_template": "processor"})})
    assert find_chat_template(tmp_path) == {"default": "processor", "tool_use": "t"}
    write(tmp_path, {"chat_template.jinja": "é", "additional_chat_templates/rag.jinja": "r"})
    assert find_chat_template(tmp_path) == {"default": "é", "tool_use": "t", "rag": "r"}


@pytest.mark.parametrize("text", ["{", "[1", '{"chat_template": 5}', '{"chat_template": [{"name": "x"}]}'])
def test_find_in_damaged_json(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidFile, match=r"tokenizer_config\.json"):
        find_chat_template(write(tmp_path, {"tokenizer_config.json": text}))
