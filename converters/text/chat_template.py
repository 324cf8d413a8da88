"""Chat templates: read from a checkpoint, parsed by jinja2, compiled to the tree that the engine interprets.

jinja2 parses with the options Transformers gives it, so whitespace and syntax are its own; what is left to
interpret is a tree of nodes, `[op, line, field, ...]`, stored as JSON text. The table of ops in
`cpp/src/text/template/program.cpp` is its grammar. Arguments of filters and tests are bound to their
signatures here: the interpreter gets them by position, complete.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.filters
from jinja2 import nodes
from jinja2.compiler import find_undeclared
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edgekit.errors import InvalidFile, UnsupportedModel

FORMAT_VERSION = 1

# A field of what no template needs, in a node that keeps its shape.
UNUSED = False

# Levels of arrays in the compiled template, as the engine reads them.
MAX_NESTING = 256

Node = list[Any]

# Filters of the interpreter beside map, select, reject, selectattr, rejectattr: these become nodes.
FILTERS = frozenset(
    "abs capitalize default dictsort escape first float indent int items join last length list lower max min"
    " replace reverse safe sort string sum title tojson trim unique upper".split()
)
FILTER_ALIASES = {"d": "default", "count": "length", "e": "escape"}

# Tests of the interpreter, with the number of their arguments.
TESTS = {
    **dict.fromkeys(
        "boolean defined even false float integer iterable mapping none number odd sequence string true"
        " undefined".split(),
        0,
    ),
    **dict.fromkeys("divisibleby eq ge gt in le lt ne sameas".split(), 1),
}
TEST_ALIASES = {
    "==": "eq", "equalto": "eq", "!=": "ne", ">": "gt", "greaterthan": "gt", ">=": "ge", "<": "lt",
    "lessthan": "lt", "<=": "le",
}  # fmt: skip

# Methods of Python's own types that the interpreter has; calling another one of theirs is refused.
METHODS = frozenset(
    "capitalize count endswith find get items join keys lower lstrip partition removeprefix removesuffix"
    " replace rfind rpartition rsplit rstrip split splitlines startswith strip title upper values".split()
)
PYTHON_METHODS = frozenset(
    name
    for kind in (str, list, tuple, dict, int, float, range)
    for name in dir(kind)
    if not name.startswith("_") and callable(getattr(kind, name))
)
# Refused by the sandbox when the template runs, as in Transformers.
MUTATORS = frozenset("append clear extend insert pop popitem remove reverse setdefault sort update".split())

# Names and attributes of `loop` that jinja2 has and the interpreter does not.
MISSING_NAMES = frozenset("cycler joiner lipsum kwargs varargs".split())
MISSING_LOOP_ATTRIBUTES = frozenset("changed cycle depth depth0".split())

BINARY_OPS = {
    nodes.Add: "add", nodes.Sub: "sub", nodes.Mul: "mul", nodes.Div: "div", nodes.FloorDiv: "floordiv",
    nodes.Mod: "mod", nodes.And: "and", nodes.Or: "or",
}  # fmt: skip
UNARY_OPS = {nodes.Not: "not", nodes.Neg: "neg", nodes.Pos: "pos"}


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant wrote, for training; in rendering it is a scope."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_render", lineno=line)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    raise NotImplementedError  # only its signature is used


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, jinja2.ext.loopcontrols],
        optimized=False,
    )
    # Operators that the sandbox intercepts are not computed when compiling: 'x' * 10**12 must not be.
    environment.intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])
    environment.filters["tojson"] = _tojson
    return environment


def compile_template(source: str) -> bytes:
    """Compile a chat template to what `ChatTemplate` in the engine opens.

    Raises UnsupportedModel, with the line, for what jinja2 refuses or the interpreter does not have.
    """
    environment = _environment()
    try:
        # Generates Python too, and so finds what only shows then: unknown filters, assignments to `loop`, ...
        environment.compile(source)
        body = _Compiler(environment).block(environment.parse(source).body)
    except jinja2.TemplateSyntaxError as error:
        raise UnsupportedModel(f"chat template, line {error.lineno}: {error.message}") from error
    except (SyntaxError, RecursionError, MemoryError, OverflowError) as error:
        raise UnsupportedModel(f"chat template: Python cannot compile it: {error}") from error
    program = {"edgekit_chat_template": FORMAT_VERSION, "body": body}
    if _nesting(body) >= MAX_NESTING:
        raise UnsupportedModel("chat template: its blocks or expressions are nested too deeply")
    try:
        return json.dumps(program, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (UnicodeEncodeError, ValueError) as error:
        raise UnsupportedModel(f"chat template: a constant cannot be stored: {error}") from error


def _nesting(value: Any) -> int:
    return 1 + max(map(_nesting, value), default=0) if isinstance(value, list) else 0


def find_chat_template(checkpoint_dir: str | Path) -> dict[str, str]:
    """The chat templates of a checkpoint by name: "default", "tool_use", ...; empty when it has none.

    Where two files name the same template the later of these wins, as in Transformers: tokenizer_config.json,
    chat_template.json, chat_template.jinja, additional_chat_templates/*.jinja.
    """
    directory = Path(checkpoint_dir)
    templates: dict[str, str] = {}
    for name in ("tokenizer_config.json", "chat_template.json"):
        path = directory / name
        if path.is_file():
            templates.update(_templates_in_json(path))
    path = directory / "chat_template.jinja"
    if path.is_file():
        templates["default"] = _read_text(path)
    for path in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        templates[path.stem] = _read_text(path)
    return templates


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidFile(f"{path}: not UTF-8: {error}") from error


def _templates_in_json(path: Path) -> dict[str, str]:
    try:
        config = json.loads(_read_text(path))
    except ValueError as error:
        raise InvalidFile(f"{path}: not JSON: {error}") from error
    found = config.get("chat_template") if isinstance(config, dict) else None
    if found is None:
        return {}
    if isinstance(found, str):
        return {"default": found}
    if isinstance(found, dict) and all(isinstance(text, str) for text in found.values()):
        return dict(found)
    if isinstance(found, list):
        try:
            return {str(entry["name"]): str(entry["template"]) for entry in found}
        except (TypeError, KeyError):
            pass
    raise InvalidFile(
        f"{path}: chat_template should be a string or a list of {{name, template}}, found {found!r:.80}"
    )


class _Compiler:
    def __init__(self, environment: jinja2.Environment) -> None:
        self.environment = environment

    def unsupported(self, node: nodes.Node, what: str) -> UnsupportedModel:
        return UnsupportedModel(f"chat template, line {node.lineno}: {what} is not supported")

    def compile(self, node: nodes.Node) -> Node:
        """One node: dispatched by the name of its class."""
        method = getattr(self, f"compile_{type(node).__name__}", None)
        if method is None:
            raise self.unsupported(node, f"'{type(node).__name__}'")
        compiled: Node = method(node)
        return compiled

    def compile_optional(self, node: nodes.Node | None) -> Node | None:
        return None if node is None else self.compile(node)

    def compile_all(self, children: Iterable[nodes.Node]) -> list[Node]:
        return [self.compile(child) for child in children]

    # ---- statements

    def block(self, statements: Sequence[nodes.Node]) -> list[Node]:
        out: list[Node] = []
        for statement in statements:
            if isinstance(statement, nodes.Output):
                out += [self.output(child) for child in statement.nodes]
            else:
                out.append(self.compile(statement))
        return out

    def output(self, node: nodes.Node) -> Node:
        if isinstance(node, nodes.TemplateData):
            return ["text", node.lineno, node.data]
        return ["print", node.lineno, self.compile(node)]

    def compile_If(self, node: nodes.If) -> Node:
        branches = [node, *node.elif_]
        tests = [self.compile(branch.test) for branch in branches]
        bodies = [self.block(branch.body) for branch in branches]
        return ["if", node.lineno, tests, [*bodies, self.block(node.else_)]]

    def compile_For(self, node: nodes.For) -> Node:
        if node.recursive:
            raise self.unsupported(node, "a recursive loop")
        return [
            "for", node.lineno, self.target(node.target), self.compile(node.iter), self.block(node.body),
            self.block(node.else_), self.compile_optional(node.test), UNUSED,
        ]  # fmt: skip

    def compile_Break(self, node: nodes.Node) -> Node:
        return ["break", node.lineno]

    def compile_Continue(self, node: nodes.Node) -> Node:
        return ["continue", node.lineno]

    def compile_Assign(self, node: nodes.Assign) -> Node:
        return ["set", node.lineno, self.target(node.target), self.compile(node.node)]

    def compile_AssignBlock(self, node: nodes.AssignBlock) -> Node:
        return [
            "set_block", node.lineno, self.target(node.target), self.block(node.body),
            self.compile_optional(node.filter),
        ]  # fmt: skip

    def compile_FilterBlock(self, node: nodes.FilterBlock) -> Node:
        return ["filter_block", node.lineno, self.block(node.body), self.compile(node.filter)]

    def compile_With(self, node: nodes.With) -> Node:
        targets = [self.target(target) for target in node.targets]
        return ["with", node.lineno, targets, self.compile_all(node.values), self.block(node.body)]

    def compile_Macro(self, node: nodes.Macro) -> Node:
        return ["macro", node.lineno, node.name, *self.macro_body(node)]

    def compile_CallBlock(self, node: nodes.CallBlock) -> Node:
        if isinstance(node.call.node, nodes.ExtensionAttribute):
            return ["scope", node.lineno, self.block(node.body)]
        return ["call_block", node.lineno, self.compile(node.call), *self.macro_body(node)]

    def macro_body(self, node: nodes.Macro | nodes.CallBlock) -> list[Any]:
        """Parameters, defaults of the last of them, body; whether it reads caller."""
        parameters = [argument.name for argument in node.args]
        reads_caller = "caller" in find_undeclared(node.body, ("caller",)) and "caller" not in parameters
        return [
            parameters, self.compile_all(node.defaults), self.block(node.body), reads_caller, UNUSED, UNUSED,
        ]  # fmt: skip

    def compile_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier) -> Node:
        raise self.unsupported(node, "{% autoescape %}")

    def target(self, node: nodes.Node) -> Node:
        if isinstance(node, nodes.Name):
            return ["name", node.lineno, node.name]
        if isinstance(node, nodes.NSRef):
            return ["nsref", node.lineno, node.name, node.attr]
        if isinstance(node, nodes.Tuple):
            return ["unpack", node.lineno, [self.target(item) for item in node.items]]
        raise self.unsupported(node, f"an assignment to '{type(node).__name__}'")

    # ---- expressions

    def compile_Name(self, node: nodes.Name) -> Node:
        if node.name in MISSING_NAMES:
            raise self.unsupported(node, f"'{node.name}'")
        return ["name", node.lineno, node.name]

    def compile_Const(self, node: nodes.Const) -> Node:
        value = node.value
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise self.unsupported(node, f"an integer of more than 64 bits ({value})")
        return ["const", node.lineno, value]

    def compile_TemplateData(self, node: nodes.TemplateData) -> Node:
        return ["const", node.lineno, node.data]

    def compile_List(self, node: nodes.List) -> Node:
        return ["list", node.lineno, self.compile_all(node.items)]

    def compile_Tuple(self, node: nodes.Tuple) -> Node:
        return ["tuple", node.lineno, self.compile_all(node.items)]

    def compile_Dict(self, node: nodes.Dict) -> Node:
        keys = self.compile_all(pair.key for pair in node.items)
        return ["dict", node.lineno, keys, self.compile_all(pair.value for pair in node.items)]

    def compile_CondExpr(self, node: nodes.CondExpr) -> Node:
        return [
            "cond", node.lineno, self.compile(node.test), self.compile(node.expr1),
            self.compile_optional(node.expr2),
        ]  # fmt: skip

    def compile_binary(self, node: nodes.BinExpr) -> Node:
        if (
            isinstance(node, nodes.Mod)
            and isinstance(node.left, nodes.Const)
            and isinstance(node.left.value, str)
        ):
            raise self.unsupported(node, "'%' of a string, which formats it,")
        return [BINARY_OPS[type(node)], node.lineno, self.compile(node.left), self.compile(node.right)]

    compile_Add = compile_Sub = compile_Mul = compile_Div = compile_FloorDiv = compile_Mod = compile_binary
    compile_And = compile_Or = compile_binary

    def compile_unary(self, node: nodes.UnaryExpr) -> Node:
        return [UNARY_OPS[type(node)], node.lineno, self.compile(node.node)]

    compile_Not = compile_Neg = compile_Pos = compile_unary

    def compile_Concat(self, node: nodes.Concat) -> Node:
        return ["concat", node.lineno, self.compile_all(node.nodes)]

    def compile_Compare(self, node: nodes.Compare) -> Node:
        operators = [operand.op for operand in node.ops]
        operands = self.compile_all(operand.expr for operand in node.ops)
        return ["compare", node.lineno, self.compile(node.expr), operators, operands]

    def compile_Getattr(self, node: nodes.Getattr) -> Node:
        if (
            isinstance(node.node, nodes.Name)
            and node.node.name == "loop"
            and node.attr in MISSING_LOOP_ATTRIBUTES
        ):
            raise self.unsupported(node, f"'loop.{node.attr}'")
        return ["attr", node.lineno, self.compile(node.node), node.attr]

    def compile_Getitem(self, node: nodes.Getitem) -> Node:
        if not isinstance(node.arg, nodes.Slice):
            return ["item", node.lineno, self.compile(node.node), self.compile(node.arg)]
        bounds = [self.compile_optional(bound) for bound in (node.arg.start, node.arg.stop, node.arg.step)]
        return ["slice", node.lineno, self.compile(node.node), *bounds]

    def compile_Call(self, node: nodes.Call) -> Node:
        called = node.node
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise self.unsupported(node, "'*' or '**' in the arguments of a call")
        if isinstance(called, nodes.Getattr) and called.attr in PYTHON_METHODS - METHODS - MUTATORS:
            raise self.unsupported(node, f"the method '{called.attr}()'")
        return [
            "call", node.lineno, self.compile(called), self.compile_all(node.args),
            [keyword.key for keyword in node.kwargs],
            self.compile_all(keyword.value for keyword in node.kwargs),
            UNUSED, UNUSED,
        ]  # fmt: skip

    # ---- filters and tests

    def compile_Filter(self, node: nodes.Filter) -> Node:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise self.unsupported(node, f"'*' or '**' in the arguments of the filter '{node.name}'")
        # The filter of a {% filter %} or {% set %} block has no operand: it gets the block's text.
        operand = ["slot", node.lineno, 0] if node.node is None else self.compile(node.node)
        arguments = self.compile_all(node.args)
        keywords = {str(keyword.key): self.compile(keyword.value) for keyword in node.kwargs}
        return self.apply_filter(node, node.name, operand, arguments, keywords)

    def apply_filter(
        self, node: nodes.Node, name: str, operand: Node, arguments: list[Node], keywords: dict[str, Node]
    ) -> Node:
        name = FILTER_ALIASES.get(name, name)
        if name not in self.environment.filters:
            return ["fail", node.lineno, f"No filter named {name!r} found."]
        if name in ("map", "select", "reject", "selectattr", "rejectattr"):
            return self.apply_to_each(node, name, operand, arguments, keywords)
        if name not in FILTERS:
            raise self.unsupported(node, f"the filter '{name}'")
        signature = self.filter_signature(name)
        try:
            bound = signature.bind(*arguments, **keywords)
        except TypeError as error:
            return ["fail", node.lineno, f"the filter '{name}': {error}"]
        values_in_order = [
            bound.arguments.get(parameter, ["const", node.lineno, default.default])
            for parameter, default in signature.parameters.items()
        ]
        return ["filter", node.lineno, name, operand, values_in_order]

    def filter_signature(self, name: str) -> inspect.Signature:
        """Of the filter without its operand, and without the context that jinja2 passes first."""
        if name in ("abs", "length", "escape", "string"):
            return inspect.Signature()
        # jinja2 wraps some in functions that also serve asyncio; the one inside says what it is passed first.
        function = inspect.unwrap(self.environment.filters[name])
        parameters = list(inspect.signature(function).parameters.values())
        return inspect.Signature(parameters[2 if hasattr(function, "jinja_pass_arg") else 1 :])

    def apply_to_each(
        self, node: nodes.Node, name: str, operand: Node, arguments: list[Node], keywords: dict[str, Node]
    ) -> Node:
        """map and its like: an expression over slot 0, the item; slots 1, 2, ... hold the arguments."""
        line = node.lineno

        def slot(index: int) -> Node:
            return ["slot", line, index]

        if name == "map" and not arguments and "attribute" in keywords:
            if not keywords.keys() <= {"attribute", "default"}:
                return ["fail", line, "map: unexpected keyword argument"]
            values = [keywords["attribute"], keywords.get("default", ["const", line, None])]
            return ["map", line, operand, values, ["filter", line, "attribute", slot(0), [slot(1), slot(2)]]]
        item = slot(0)
        values = [*arguments, *keywords.values()]
        slots = [slot(index + 1) for index in range(len(values))]
        used = 0
        if name.endswith("attr"):
            if not arguments:
                return ["fail", line, "Missing parameter for attribute name"]
            item = ["filter", line, "attribute", item, [slots[0], ["const", line, None]]]
            used = 1
        if len(arguments) == used:
            if name == "map":
                return ["fail", line, "map requires a filter argument"]
            body = item
        else:
            inner_name = arguments[used]
            if inner_name[0] != "const" or not isinstance(inner_name[2], str):
                raise self.unsupported(node, f"a computed name in the filter '{name}'")
            inner_arguments = slots[used + 1 : len(arguments)]
            inner_keywords = dict(zip(keywords, slots[len(arguments) :], strict=True))
            apply = self.apply_filter if name == "map" else self.apply_test
            body = apply(node, inner_name[2], item, inner_arguments, inner_keywords)
        if name.startswith("reject"):
            body = ["not", line, body]
        return ["map" if name == "map" else "select", line, operand, values, body]

    def compile_Test(self, node: nodes.Test) -> Node:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise self.unsupported(node, f"'*' or '**' in the arguments of the test '{node.name}'")
        keywords = {str(keyword.key): self.compile(keyword.value) for keyword in node.kwargs}
        return self.apply_test(
            node, node.name, self.compile(node.node), self.compile_all(node.args), keywords
        )

    def apply_test(
        self, node: nodes.Node, name: str, operand: Node, arguments: list[Node], keywords: dict[str, Node]
    ) -> Node:
        if name not in self.environment.tests:
            return ["fail", node.lineno, f"No test named {name!r} found."]
        name = TEST_ALIASES.get(name, name)
        if name not in TESTS:
            raise self.unsupported(node, f"the test '{name}'")
        values = [*arguments, *keywords.values()]
        if len(values) != TESTS[name]:
            return [
                "fail",
                node.lineno,
                f"the test '{name}' takes {TESTS[name]} arguments, not {len(values)}",
            ]
        return ["test", node.lineno, name, operand, values]
