"""Our chat templates against jinja2, set up as Transformers sets it up: the same text, or an error from both."""

from __future__ import annotations

import datetime
import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox
import jinja2.utils
import pytest

from edgekit.converters.text.chat_template import compile_template, find_chat_template
from edgekit.engine import ChatTemplate
from edgekit.errors import EdgekitError, InvalidFile, TemplateError, UnsupportedModel

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
    "unicode": "ßﬁ ÀÉÎ ǆ ΑΣ ΑΣΑ İı Ⅷ ½ ² ٣ 中\u200b\u00a0\u2028x",
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

# What each stands for is the title; each line is a template.
SNIPPETS = {
    "output": """
        {{ none }}|{{ yes }}|{{ float }}|{{ 1e16 }}|{{ 1.0 }}|{{ -0.0 }}|{{ 123456789.125 }}|{{ big }}|{{ 1_000 }}|{{ 0x1f }}
        {{ words }}{{ mapping }}{{ (1,) }}{{ () }}{{ (1, 'a') }}{{ numbers }}{{ tools }}
        {{ 'it\\'s' }}{{ ['it\\'s', 'say "x"', 'both \\' "', 'tab\\t', '\\n\\r\\\\', unicode, '\\x00\\x7f'] }}
        {{ missing }}|{{ [missing] }}|{{ mapping.missing }}|{{ none.x }}|{{ none['x'] }}|{{ (1).x }}
        {# a comment #}a{{ '{{' }}{% raw %}{{ raw }}{% endraw %}
        {{ words.upper }}
        {{ range(3) }}{{ range(1, 9, 2) }}{{ mapping.keys() }}{{ {'a': 1}.items() }}{{ {1: 2}.values() }}
        {{ 'a' 'b' }}
    """,
    "undefined": """
        {{ missing.x }}
        {{ missing[0] }}
        {{ missing() }}
        {{ missing + 1 }}
        {{ 1 + missing }}
        {{ missing ~ 1 }}
        {{ -missing }}
        {{ missing < 1 }}
        {{ missing == 1 }}{{ missing == missing2 }}{{ missing != none }}{{ missing in [1] }}{{ 1 in missing }}
        {{ missing in 'abc' }}
        {{ missing|length }}{{ missing|list }}{{ missing|join }}{{ missing|upper }}|{{ missing|first }}|{{ missing|string }}
        {{ missing|tojson }}
        {{ missing|int }}
        {% for x in missing %}x{% else %}none{% endfor %}
        {{ missing is iterable }}{{ missing is sequence }}{{ missing is mapping }}{{ missing is callable }}
        {{ mapping.a.b.c }}
        {{ 'yes' if missing }}|{{ ('yes' if missing) is defined }}
        {{ missing[1:] }}
        {{ mapping['nope'] is defined }}{{ mapping.nope is not defined }}{{ mapping.a[7] is defined }}
    """,
    "arithmetic": """
        {{ 7 / 2 }}|{{ 6 / 2 }}|{{ 7 // 2 }}|{{ -7 // 2 }}|{{ 7 // -2 }}|{{ 7 % 3 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}
        {{ 7.5 // 2 }}|{{ -7.5 // 2 }}|{{ 7.5 % -2 }}|{{ -1.0 % 3 }}|{{ 1e300 * 1e10 }}|{{ 0.1 + 0.2 }}|{{ 1 - 0.9 }}|{{ -2 ** 2 }}
        {{ 1 / 0 }}
        {{ 1 // 0 }}
        {{ 1.0 % 0 }}
        {{ 0 ** -1 }}
        {{ true + 1 }}|{{ +true }}|{{ -true }}|{{ 'ab' * 3 }}|{{ 3 * [1] }}|{{ (1,) * 2 }}|{{ 'x' * -1 }}|{{ [1] + [2] }}|{{ (1,) + (2,) }}
        {{ 'a' + 1 }}
        {{ [1] + (2,) }}
        {{ none + 1 }}
        {{ {} + {} }}
        {{ 'a' ~ 1 ~ none ~ [1] ~ 1.5 }}
        {{ 'a' + 'b' ~ 'c' + 'd' }}
        {{ 1 + 2 * 3 - 4 / 5 }}{{ (1 + 2) * 3 }}{{ 2 ** 3 ** 2 }}{{ not 1 == 2 }}
        {{ -'x' }}
        {{ 'x' * 1.5 }}
    """,
    "comparison": """
        {{ 1 == 1.0 }}{{ 1 == true }}{{ 'a' == 1 }}{{ [1] == [1.0] }}{{ (1,) == [1] }}{{ {'a': 1} == {'a': 1.0} }}{{ none == false }}
        {{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 3 > 2 >= 2 }}{{ 'a' < 'b' }}{{ 'Z' < 'a' }}{{ [1, 2] < [1, 3] }}{{ (1,) <= (1, 0) }}{{ true < 2 }}
        {{ 'a' < 1 }}
        {{ none < 1 }}
        {{ [1] < (1,) }}
        {{ {} < {} }}
        {{ 9007199254740993 == 9007199254740992.0 }}{{ 9007199254740993 > 9007199254740992.0 }}
        {{ 'b' in 'abc' }}{{ '' in '' }}{{ 1 in [1.0] }}{{ 'a' in mapping }}{{ 'z' not in mapping }}{{ 2 in range(3) }}{{ 'a' in ('a',) }}
        {{ 1 in 'abc' }}
        {{ 1 in 5 }}
        {{ [] in {} }}
        {{ none in [none] }}{{ 1 in mapping.values() }}{{ ('b', 1) in mapping.values() }}
        {{ 0 or 'x' }}{{ '' and 1 }}{{ [] or {} }}{{ not '' }}{{ not [0] }}{{ none or false }}{{ 1 and 2 }}
        {{ 1 if 0 else 2 }}{{ 1 if 'x' else 2 }}{{ 'a' if false else 'b' if true else 'c' }}
        {{ range(3) == range(0, 3) }}{{ {}.keys() == {}.keys() }}
    """,
    "items and slices": """
        {{ words[0] }}{{ words[-1] }}{{ words[9] }}|{{ words['0'] }}|{{ words[1.0] }}|{{ words[true] }}|{{ words.0 }}
        {{ text[3] }}{{ unicode[0] }}{{ unicode[-1] }}{{ 'é世😀'[1] }}{{ 'é世😀'[-1] }}{{ 'abc'[5] }}
        {{ 'é世😀x'[1:3] }}|{{ 'abcdef'[::-1] }}|{{ 'abcdef'[-3:] }}|{{ 'abcdef'[:-2] }}|{{ 'abcdef'[4:1:-1] }}|{{ 'abcdef'[::2] }}
        {{ numbers[1:3] }}{{ numbers[::-2] }}{{ numbers[10:] }}{{ numbers[-100:2] }}{{ (1, 2, 3)[1:] }}{{ numbers[none:2] }}
        {{ range(10)[2:8:3] }}{{ range(10)[::-1]|list }}{{ range(5)[-1] }}{{ range(5)[9] }}
        {{ numbers[::0] }}
        {{ mapping[1:] }}
        {{ mapping.b[1:] }}
        {{ numbers['a':] }}
        {{ mapping['b'] }}{{ mapping.b }}{{ mapping['items'] }}{{ mapping.é }}{{ mapping['1'] }}{{ mapping[1] }}{{ mapping.get('a') }}
        {{ mapping['keys'] is callable }}{{ mapping.get is callable }}{{ mapping['get'] }}
        {% for k, v in mapping.items() %}{{ k }}={{ v }};{% endfor %}
        {{ {1: 'a', true: 'b', 1.0: 'c'} }}{{ {'x': 1}['x'] }}{{ {(1, 2): 3}[(1, 2)] }}{{ {none: 1}[none] }}
        {{ {[]: 1} }}
        {{ messages[0].content[0] }}{{ messages[-1]['content'][:3] }}{{ messages[1:][0].role }}{{ messages[::-1][0]['role'] }}
        {{ (people|first)['address']['city'] }}{{ people[0]['na' ~ 'me'] }}
    """,
    "sandbox": """
        {{ words.append('x') }}
        {{ words.pop() }}
        {{ mapping.update({}) }}
        {{ mapping.pop('a') }}
        {{ words.append is defined }}{{ mapping.pop is defined }}{{ ''.__class__ }}
        {{ ''.__class__.__mro__ }}
        {% set x = words.sort %}{{ x() }}
        {{ range(1000000) }}
        {{ mapping.__len__ }}
    """,
    "string methods": """
        {{ text.split() }}{{ text.split(' ') }}{{ text.split(' ', 1) }}{{ text.split(maxsplit=2) }}{{ text.split('o', maxsplit=1) }}
        {{ text.rsplit() }}{{ text.rsplit(None, 2) }}{{ text.rsplit('o', 1) }}{{ 'a,b,,c'.split(',') }}{{ ''.split() }}{{ ''.split(',') }}
        {{ text.split('') }}
        {{ text.splitlines() }}{{ text.splitlines(true) }}{{ 'a\\n'.splitlines(keepends=true) }}{{ 'a\\x0bb\\x1cc\\x85d'.splitlines() }}
        {{ '  x '.strip() }}|{{ '  x '.lstrip() }}|{{ '  x '.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'abcba'.lstrip('ab') }}|{{ 'é x é'.strip('é') }}|{{ ' x '.strip(none) }}
        {{ unicode.strip() }}|{{ '\\u3000a\\x1f\\u00a0'.strip() }}|{{ '\\u200ba'.strip()|length }}
        {{ unicode.upper() }}|{{ unicode.lower() }}|{{ unicode.title() }}|{{ unicode.capitalize() }}|{{ unicode.swapcase() }}
        {{ text.title() }}|{{ text.capitalize() }}|{{ "they're bill's".title() }}|{{ 'ABC def'.swapcase() }}|{{ 'ΟΔΥΣΣΕΥΣ'.lower() }}
        {{ 'aXbXc'.replace('X', '--') }}{{ 'aXbXc'.replace('X', '', 1) }}{{ 'ab'.replace('', '.') }}{{ 'é世'.replace('', '-', 2) }}
        {{ 'abc'.replace('b') }}
        {{ 'abc'.startswith('ab') }}{{ 'abc'.startswith(('x', 'a')) }}{{ 'abc'.endswith('bc') }}{{ 'abc'.startswith('b', 1) }}{{ 'abc'.endswith('b', 0, 2) }}{{ ''.startswith('') }}
        {{ 'abc'.startswith(1) }}
        {{ 'é世é'.find('é', 1) }}{{ 'abc'.find('z') }}{{ 'abcabc'.rfind('b') }}{{ 'abc'.index('c') }}{{ 'aaa'.count('a') }}{{ 'aaaa'.count('aa') }}{{ 'abc'.count('') }}
        {{ 'abc'.index('z') }}
        {{ ','.join(words) }}{{ ''.join([]) }}{{ '-'.join('abc') }}{{ ', '.join(mapping) }}
        {{ ','.join([1]) }}
        {{ 'ab'.center(7) }}|{{ 'ab'.center(8, '*') }}|{{ 'abc'.center(6) }}|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '.') }}|{{ '-7'.zfill(5) }}|{{ 'a\\tb'.expandtabs(4) }}
        {{ 'a-b-c'.partition('-') }}{{ 'a-b-c'.rpartition('-') }}{{ 'abc'.partition('-') }}{{ 'abc'.rpartition('-') }}
        {{ 'prefix-x'.removeprefix('prefix-') }}{{ 'x.txt'.removesuffix('.txt') }}{{ 'abc'.removeprefix('z') }}
        {{ 'abc'.isalpha() }}{{ 'a1'.isalnum() }}{{ '12'.isdigit() }}{{ '²'.isdigit() }}{{ '²'.isdecimal() }}{{ '½'.isnumeric() }}{{ ' \\t'.isspace() }}{{ ''.isalpha() }}
        {{ 'abc'.islower() }}{{ 'ABC'.isupper() }}{{ 'Abc Def'.istitle() }}{{ '123'.isupper() }}{{ 'a'.isascii() }}{{ 'é'.isascii() }}
        {{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ (1, 1).count(1) }}{{ 2.0.is_integer() }}
        {{ mapping.get('z', 'd') }}{{ mapping.get('z') }}{{ {'a': 1}.get('a', 2) }}{{ {}.get() }}
        {{ text.nope() }}
        {{ 'x'.upper(1) }}
    """,
    "formatting": """
        {{ '%s|%d|%5.2f|%-6s|%06d|%x|%X|%o|%e|%g|%%|%r|%c|%+d|% d' % ('a', 42, 3.14159, 'ab', -42, 255, 255, 8, 12345.678, 0.0001, 'q', 'z', 5, 5) }}
        {{ '%s' % 'one' }}{{ '%s' % none }}{{ '%(a)s-%(b)03d' % {'a': 1, 'b': 2} }}{{ '%5s|%.2s|%*d' % ('é', 'abc', 4, 7) }}{{ '%d' % 3.9 }}
        {{ '%s' % (1, 2) }}
        {{ '%s %s' % 'a' }}
        {{ '%d' % 'a' }}
        {{ '%(a)s' % 1 }}
        {{ 'x' % 1 }}
        {{ '%s %s'|format('a', 1) }}{{ '%(x)s'|format(x=5) }}{{ '%.1f'|format(2.25) }}{{ '%.0f'|format(0.5) }}{{ '%.3f'|format(1e10) }}
        {{ '{} {}'.format(1, 'a') }}{{ '{1}{0}'.format('a', 'b') }}{{ '{x}-{y!r}'.format(x=1, y='q') }}{{ '{{}}'.format() }}{{ '{0[a]}{1.b}'.format({'a': 1}, {'b': 2}) }}
        {{ '{:>5}|{:<5}|{:^5}|{:*^7}|{:05d}|{:+}|{:,}|{:.2f}|{:x}|{:#x}|{:e}|{:.1%}|{:g}'.format('a', 'b', 'c', 'd', 42, 1, 1234567, 2.5, 255, 255, 1234.5, 0.256, 1e-5) }}
        {{ '{}'.format(1.0) }}{{ '{:5}|{:5}'.format(true, 1) }}{{ '{:.3}'.format('abcdef') }}{{ '{:{}}|'.format('a', 4) }}{{ '{:.3}|{:.3}'.format(2.0, 12345.678) }}
        {{ '{} {}'.format(1) }}
        {{ '{'.format(1) }}
        {{ '{:d}'.format('a') }}
        {{ '{a}'.format() }}
    """,
    "filters on text": """
        {{ 'ab'|upper }}{{ 'AB'|lower }}{{ 'hello WORLD'|capitalize }}{{ "foo-bar baz_q (x [y {z <w 'v"|title }}{{ 5|upper }}{{ none|lower }}
        {{ '  x '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ 5|trim }}|{{ text|trim|length }}|{{ none|trim }}
        {{ 'a b a'|replace('a', 'x') }}{{ 'a b a'|replace('a', 'x', 1) }}{{ 1.5|replace('.', ',') }}{{ 'ab'|replace('', '.') }}
        {{ text|indent }}|{{ text|indent(2, true) }}|{{ text|indent(2, blank=true) }}|{{ text|indent('> ') }}|{{ ''|indent }}|{{ 'a\\n'|indent }}
        {{ 5|indent }}
        {{ 'foo bar baz qux'|truncate(9) }}|{{ 'foo bar baz qux'|truncate(9, true) }}|{{ 'foo bar baz qux'|truncate(11) }}|{{ 'foo bar baz qux'|truncate(11, false, '…', 0) }}
        {{ 'abc'|truncate(2) }}
        {{ 'ab'|center(7) }}|{{ text|wordcount }}{{ 'a_b c-d é'|wordcount }}
        {{ '<a & "b">'|escape }}{{ "'"|e }}{{ '<'|safe }}{{ '<'|safe|e }}{{ '<'|e|forceescape }}{{ '<a>'|safe + '<b>' }}{{ '<b>' + '<a>'|safe }}{{ '<'|safe ~ '>' }}
        {{ ('<'|safe).upper() + '<' }}{{ ('a'|safe).replace('a', '<') }}{{ ['<'|safe] }}{{ ('<'|safe) == '<' }}{{ ('<'|safe) is escaped }}{{ ('<>'|safe)[0] + '<' }}
        {{ 'abc'|reverse }}{{ 'é世😀'|reverse }}{{ 'abc'|list }}{{ 'abc'|first }}{{ 'abc'|last }}{{ 'é世'|length }}{{ 'abc'|count }}{{ 'aBc'|map('upper')|join }}
        {{ 5|string + 'x' }}{{ none|string }}{{ [1]|string }}{{ 1.0|string|length }}
        {{ 1000|filesizeformat }}|{{ 1|filesizeformat }}|{{ 1500000|filesizeformat(true) }}|{{ 5|filesizeformat }}|{{ 1e9|filesizeformat }}
    """,
    "filters on numbers": """
        {{ '42'|int }}{{ '42.9'|int }}{{ 'x'|int }}{{ 'x'|int(7) }}{{ '0x1f'|int(base=16) }}{{ '1f'|int(0, 16) }}{{ 3.9|int }}{{ -3.9|int }}{{ none|int }}{{ ' 7 '|int }}{{ '1_0'|int }}{{ true|int }}{{ [1]|int(5) }}
        {{ '1.5'|float }}{{ 'x'|float }}{{ 'x'|float(2.5) }}{{ 3|float }}{{ '1e3'|float }}{{ none|float }}{{ [' inf ', 'nan']|map('float')|list }}
        {{ [' inf ']|map('float')|map('int')|list }}
        {{ 42.55|round }}{{ 42.55|round(1, 'floor') }}{{ 42.51|round(1, 'ceil') }}{{ 2.5|round }}{{ 3.5|round }}{{ -2.5|round }}{{ 2.675|round(2) }}{{ 7|round }}{{ 1.5|round(-1) }}{{ 15|round(1, 'floor') }}
        {{ 1|round(method='x') }}
        {{ -5|abs }}{{ (-5)|abs }}{{ (-2.5)|abs }}{{ true|abs }}
        {{ 'x'|abs }}
        {{ numbers|sum }}{{ people[:3]|sum(attribute='age') }}{{ [[1], [2]]|sum(start=[]) }}{{ []|sum }}{{ [1]|sum(start=2.5) }}
        {{ words|sum }}
        {{ numbers|max }}{{ numbers|min }}{{ words|min }}{{ words|max(true) }}{{ []|max }}{{ (people[:3]|max(attribute='age')).name }}{{ 'hello'|max }}
        {{ [1, 'a']|max }}
    """,
    "filters on sequences": """
        {{ numbers|sort }}{{ numbers|sort(reverse=true) }}{{ words|sort }}{{ words|sort(case_sensitive=true) }}{{ words|sort(true, true) }}
        {{ people[:3]|sort(attribute='age')|map(attribute='name')|join(',') }}{{ people[:3]|sort(attribute='age,name', reverse=true)|map(attribute='name')|list }}
        {{ [1, 'a']|sort }}
        {{ mapping|dictsort }}
        {{ {'b': 1, 'A': 2, 'c': 0}|dictsort }}{{ {'b': 1, 'A': 2}|dictsort(true) }}{{ {'b': 1, 'A': 2}|dictsort(by='value', reverse=true) }}
        {{ [1]|dictsort }}
        {{ words|unique|list }}{{ words|unique(true)|list }}{{ [1, 1.0, true, 2]|unique|list }}{{ people|unique(attribute='address.city')|map(attribute='name')|list }}
        {{ [[1]]|unique|list }}
        {% for city, group in people|groupby('address.city', default='?') %}{{ city }}:{{ group|map(attribute='name')|join('+') }};{% endfor %}
        {% for g in words|groupby(0) %}{{ g.grouper }}{{ g.list }}{{ g[0] }}{{ g }}{% endfor %}
        {{ numbers|batch(4)|list }}{{ numbers|batch(4, 'x')|list }}{{ range(7)|slice(3)|list }}{{ range(7)|slice(3, 'x')|list }}{{ []|batch(2)|list }}
        {{ numbers|first }}{{ numbers|last }}{{ empty|first }}|{{ empty|last }}|{{ mapping|first }}{{ mapping|last }}{{ mapping|list }}
        {{ numbers|reverse|list }}{{ mapping|reverse|list }}{{ range(3)|reverse|list }}{{ (1, 2)|reverse|first }}
        {{ words|join }}{{ words|join(', ') }}{{ numbers|join('-') }}{{ people|join(',', attribute='name') }}{{ 'abc'|join('.') }}{{ mapping|join(',') }}
        {{ 5|join }}
        {{ numbers|length }}{{ mapping|length }}{{ mapping.items()|length }}{{ range(4)|length }}{{ (1, 2)|count }}
        {{ 5|length }}
        {{ numbers|map('string')|join }}{{ words|map('upper')|list }}{{ words|map('replace', 'a', 'o')|list }}{{ people|map(attribute='address.city', default='?')|list }}{{ words|map('truncate', 3, end='')|list }}
        {{ numbers|select('odd')|list }}
        {{ [1, 2, 3, 4]|select('odd')|list }}{{ [1, 2, 3]|reject('gt', 2)|list }}{{ [0, 1, '', 'a', none]|select|list }}{{ [0, 1]|reject|list }}{{ words|select('in', ['apple'])|list }}{{ [1, 2, 3]|select('divisibleby', 3)|list }}
        {{ people|selectattr('age')|map(attribute='name')|list }}{{ people|selectattr('age', 'defined')|list|length }}{{ people|rejectattr('age', 'equalto', 41)|map(attribute='name')|list }}{{ people|selectattr('address.city', 'eq', 'Oslo')|list|length }}
        {{ people|rejectattr('age')|list|length }}{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|first }}
        {% set g = words|map('upper') %}{{ g|first }}{{ g|list }}{{ g|list }}
        {% set g = [1]|map('nofilter') %}unused
        {{ [1]|map('nofilter')|list }}
        {{ [1]|select('notest')|list }}
        {{ []|map('nofilter')|list }}
        {{ words|map('upper')|length }}
        {{ words|map('upper')|last }}
        {{ words|map('upper') is iterable }}{{ words|map('upper') is sequence }}{{ 1 if words|select('none') else 2 }}
        {{ (words|map('upper'))[0] }}|{{ words|map|list }}
        {{ mapping|items|list }}{{ missing|items|list }}{{ mapping.items()|list }}{{ mapping.values()|list|tojson }}
        {{ [1]|items|list }}
        {{ 5|list }}
        {{ missing|default('d') }}{{ none|default('d') }}{{ ''|default('d', true) }}{{ ''|d('x', boolean=true) }}{{ missing|default }}{{ mapping.z|default([])|length }}
        {{ mapping|attr('b') is defined }}{{ ''|attr('upper') is callable }}{{ people[0]|attr('name') is defined }}
    """,
    "tojson": """
        {{ mapping|tojson }}{{ unicode|tojson }}{{ tools|tojson }}{{ none|tojson }}{{ '<&>\\'"'|tojson }}{{ 1.0|tojson }}{{ float|tojson }}{{ 1e22|tojson }}{{ (1, 2)|tojson }}
        {{ mapping|tojson(indent=2) }}{{ mapping|tojson(indent=none) }}{{ []|tojson(indent=4) }}{{ {}|tojson(indent=4) }}{{ [[], {}]|tojson(indent=1) }}{{ [1]|tojson(indent='--') }}{{ [1]|tojson(indent=0) }}
        {{ mapping|tojson(ensure_ascii=true) }}{{ '😀\\x7f'|tojson(true) }}{{ mapping|tojson(separators=(',', ':')) }}{{ mapping|tojson(sort_keys=true, indent=2) }}{{ mapping|tojson(separators=[', ', ' = ']) }}
        {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}{{ 'x'|safe|tojson }}{{ ['inf', 'nan']|map('float')|list|tojson }}
        {{ {(1,): 2}|tojson }}
        {{ range(3)|tojson }}
        {{ namespace()|tojson }}
        {{ messages|tojson }}{{ messages[2].content|tojson|length }}{{ tools|tojson|upper }}{{ tools|map('tojson')|join('\\n') }}
    """,
    "tests": """
        {{ missing is defined }}{{ missing is undefined }}{{ none is defined }}{{ none is none }}{{ 0 is none }}{{ yes is boolean }}{{ 1 is boolean }}{{ yes is true }}{{ 1 is true }}{{ false is false }}
        {{ 1 is integer }}{{ true is integer }}{{ 1.0 is float }}{{ 1 is number }}{{ true is number }}{{ '1' is number }}{{ 'a' is string }}{{ 1 is string }}{{ mapping is mapping }}{{ [] is mapping }}
        {{ [] is sequence }}{{ 'a' is sequence }}{{ mapping is sequence }}{{ 1 is sequence }}{{ range(2) is sequence }}{{ mapping.items() is sequence }}{{ [] is iterable }}{{ 1 is iterable }}{{ mapping is iterable }}{{ none is iterable }}
        {{ 3 is odd }}{{ 3 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(4) }}{{ 'a' is lower }}{{ 'A' is upper }}{{ 1 is lower }}{{ -1 is odd }}
        {{ 1 is eq 1 }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 1 is le 1 }}{{ 2 is gt 1 }}{{ 2 is ge 3 }}{{ 1 is equalto 1 }}{{ 1 is sameas 1 }}{{ none is sameas none }}{{ true is sameas 1 }}{{ 'a' is in 'abc' }}{{ 1 is in [2] }}{{ 1 is not in [2] }}
        {{ 'a' is odd }}
        {{ range is callable }}{{ words is callable }}{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}{{ 'x' is escaped }}
        {% if missing is defined and missing.x %}a{% elif words is not string and words is iterable %}b{% endif %}
        {% if missing is nothing %}a{% endif %}
        {% if false %}{{ 1|nothing }}{% else %}skipped{% endif %}
        {% if true %}{{ 1|nothing }}{% endif %}
    """,
    "statements": """
        {% if 0 %}a{% elif '' %}b{% elif [] %}c{% else %}d{% endif %}{% if 1 %}{% endif %}
        {% set x = 1 %}{{ x }}{% set x = x + 1 %}{{ x }}{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set (c, d) = [3, 4] %}{{ c + d }}{% set e, = 'z' %}{{ e }}
        {% set a, b = [1] %}
        {% set a, b = 5 %}
        {% set x %}block {{ 1 + 1 }}{% endset %}{{ x|upper }}{% set y | upper %}text{% endset %}{{ y }}{% set z | replace('a', 'b') | trim %} aaa {% endset %}[{{ z }}]
        {% if true %}{% set seen = 1 %}{% endif %}{{ seen }}
        {% if bos_token %}{% set bos_token = 'changed' %}{% endif %}{{ bos_token }}
        {% for i in [1] %}{% set inner = i %}{% endfor %}{{ inner }}|{% set x = 0 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
        {% set ns = namespace(n=0, found=false) %}{% for i in numbers %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}{{ ns.found }}{{ ns.missing }}|{{ ns['n'] }}
        {% set ns = namespace({'a': 1}, b=2) %}{{ ns.a }}{{ ns.b }}{% set ns.c = ns.a %}{{ ns.c }}
        {% set ns = namespace() %}{% set ns._x = 1 %}
        {% set words.x = 1 %}
        {% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}|{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}|{% set v = 1 %}{% with v = v + 1 %}{{ v }}{% endwith %}{{ v }}
        {% filter upper %}abc {{ 'def' }}{% endfilter %}{% filter replace('a', 'b') | indent(2) %}a\na{% endfilter %}
        {% generation %}x{% set inside = 1 %}{{ inside }}{% endgeneration %}{{ inside }}
        {%- if true -%}  a  {%- endif -%}  b
        {{ raise_exception('because ' ~ 1) }}
        {% if messages[0].role != 'user' %}{{ raise_exception('Roles!') }}{% endif %}
        {{ dict(a=1, b='x') }}{{ dict([(1, 2)]) }}{{ dict({'a': 1}, c=3) }}{{ dict() }}{{ dict.fromkeys([1, 2], 0) }}
        {{ dict(5) }}
        {% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}
        {% set j = joiner('; ') %}{% for w in words %}{{ j() }}{{ w }}{% endfor %}{% set k = joiner() %}{{ k() }}{{ k() }}
        {{ strftime_now('%Y-%m-%d %d %b %Y %B %A %a %H:%M:%S %j %p %I %y %% %e %-d %-m') }}
        {{ range(5, 1, -2)|list }}{{ range(2, 2)|list }}{{ range() }}
        {{ range(1, 2, 0) }}
    """,
    "loops": """
        {% for x in words %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ x }};{% endfor %}
        {% for x in words|map('upper') %}{{ loop.last }}{{ loop.length }}{{ loop.nextitem is defined }}{{ x }}{% endfor %}
        {% for x in numbers if x is integer and x > 1 %}{{ x }}{{ loop.index }}/{{ loop.length }}{% else %}none{% endfor %}{% for x in [] %}a{% else %}none{% endfor %}
        {% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}-{{ b }};{% endfor %}{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
        {% for a, b in [1] %}{% endfor %}
        {% for x in 5 %}{% endfor %}
        {% for x in none %}{% endfor %}
        {% for k in mapping %}{{ k }}{% endfor %}{% for c in 'é世' %}[{{ c }}]{% endfor %}
        {% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
        {% for x in [1] %}{% break %}{% else %}else after break{% endfor %}{% for x in [1] %}{% continue %}{% else %}else after continue{% endfor %}
        {% for x in [1, 2] %}{% for y in [3, 4] %}{{ loop.index }}{% if y == 3 %}{% continue %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }}{% endfor %}
        {% for x in words %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(x|first|lower) }}{% endfor %}{% for x in [1] %}{{ loop.changed(loop) }}{% endfor %}
        {% for n in tree recursive %}{{ n.n }}@{{ loop.depth }}{% if n.kids %}({{ loop(n.kids) }}){% endif %}{% endfor %}
        {% for n in tree %}{{ loop(n.kids) }}{% endfor %}
        {% for x in [1, 2] %}{% set loop_index = loop.index %}{% for y in 'ab' %}{{ loop_index }}{{ y }}{{ loop.index }}{% endfor %}{% endfor %}
        {% for m in messages %}{% if loop.first and m['role'] == 'system' %}{{ m.content }}{% elif not loop.last %}{{ m.content|trim }}{% else %}[{{ m['content'] }}]{% endif %}{% endfor %}
        {% for item in mapping|dictsort if item[0] != 'a' %}{{ item[0] }}{% endfor %}
        {% for item in mapping.items() %}{{ item[0] }}:{{ loop.length }}{% endfor %}{{ loop }}
        {% for x in [1,2] %}{{ x }}{% if not loop.last %}, {% endif %}{% endfor %}
    """,
    "macros": """
        {% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }}{{ m(1, c='y') }}{{ m(a=5, b=6) }}|{{ m() }}|{{ m(*[1, 2, 3]) }}{{ m(**{'a': 7}) }}
        {% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
        {% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}
        {% macro m(a) %}{% endmacro %}{{ m(z=2) }}
        {% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(3) }}{{ m(3, 4) }}
        {% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}{{ m() }}
        {% macro m(x) %}<{{ caller(x) }}>{% endmacro %}{% call(y) m(5) %}{{ y + 1 }}{% endcall %}{% call(y, z=3) m(5) %}{{ y + z }}{% endcall %}
        {% macro m() %}{{ caller() }}{% endmacro %}{% set o = 'outer' %}{% call m() %}{{ o }}{% endcall %}
        {% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}{% call m() %}{% endcall %}
        {% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}
        {% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
        {% macro fact(n) %}{% if n > 1 %}{{ n }}*{{ fact(n - 1) }}{% else %}1{% endif %}{% endmacro %}{{ fact(5) }}
        {% macro forever(n) %}{{ forever(n + 1) }}{% endmacro %}{{ forever(0) }}
        {% set g = 1 %}{% macro m() %}{{ g }}{% set g2 = 5 %}{% endmacro %}{{ m() }}{% set g = 2 %}{{ m() }}{{ g2 }}
        {% macro outer() %}{% macro inner(x) %}[{{ x }}]{% endmacro %}{{ inner(1) }}{% endmacro %}{{ outer() }}{{ inner is defined }}
        {% for x in [1, 2] %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}
        {% macro m() %} a {% endmacro %}{{ m()|trim }}{{ m() is string }}{% set s = m() %}{{ s|length }}{{ m is callable }}
        {% macro kv(d) %}{% for k, v in d|dictsort %}{{ k }}:{% if v is mapping %}{ {{ kv(v) }} }{% else %}{{ v }}{% endif %}{% if not loop.last %},{% endif %}{% endfor %}{% endmacro %}{{ kv({'b': {'c': 1}, 'a': 2}) }}
        {% set ns = namespace(f=none) %}{% macro m() %}M{% endmacro %}{% set ns.f = m %}{{ ns.f() }}
        {% macro m(undef) %}{{ undef is defined }}|{{ undef }}|{{ undef or 'x' }}{% endmacro %}{{ m() }}{{ m(missing) }}
        {% macro m() %}{% for x in words %}{% if x == 'Apple' %}{% break %}{% endif %}{{ x }}{% endfor %}{% endmacro %}{{ m() }}
        {{ m() }}{% macro m() %}late{% endmacro %}
    """,
}


def snippets() -> list[Any]:
    return [
        pytest.param(line.strip(), id=f"{title} {number}")
        for title, lines in SNIPPETS.items()
        for number, line in enumerate(lines.strip("\n").splitlines())
        if line.strip()
    ]


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


class Dict:
    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


def raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def reference_environment() -> jinja2.Environment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals.update(
        raise_exception=raise_exception,
        strftime_now=NOW.strftime,
        dict=Dict(),
        namespace=Namespace,
    )
    return environment


REFERENCE = reference_environment()


def outcome(render: Callable[[], str]) -> str | None:
    """The text, or None for an error."""
    try:
        return render()
    except (TemplateError, UnsupportedModel, jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
        return None
    except (AttributeError, RecursionError, AssertionError):
        return None


def render(source: str, context: Mapping[str, Any]) -> str:
    template = ChatTemplate.from_bytes(compile_template(source))
    return template.render({**context, "now": NOW.isoformat()})


def assert_same(source: str, context: Mapping[str, Any]) -> bool:
    """Whether there was text to compare."""
    expected = outcome(lambda: REFERENCE.from_string(source).render(**context))
    assert outcome(lambda: render(source, context)) == expected, source
    return expected is not None


@pytest.mark.parametrize("source", snippets())
def test_snippet(source: str) -> None:
    assert_same(source, CONTEXT)


# ---- random expressions

ATOMS = (
    "one zero minus float ab accented blank nil yes missing words numbers mapping people empty text unicode big range(4) (one,'a')"
    " ['x',[one]] {'k':one} text.split() mapping.b people[0].name words|first"
).split(" ")
ATOMS = [atom for atom in ATOMS if atom] + ["'%s' % one", "words|map('upper')|list", "mapping.items()"]
BINARY = "+ - * / // % ~ == != < <= > >= in and or".split() + ["not in"]
SUFFIXES = (
    "|length |upper |string |list |join |join(',') |first |last |sort |reverse|list |tojson |int |float |abs |trim |default(7)"
    " |title |unique|list |max |min |sum |items|list |dictsort |round |capitalize [0] [-1] [1:] [::-1] ['k'] .k .strip()"
    " .split() .title() .items()|list .get('b') .upper() |replace('a','b') |indent(1,true) |map('string')|join"
    " |select|list |batch(2)|list |wordcount |e |safe"
).split()
TESTS = "defined none string mapping sequence iterable number odd true lower callable boolean".split()


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
        expected = outcome(lambda: REFERENCE.from_string(source).render(**CONTEXT))
        if expected is not None and (" at 0x" in expected or expected.count("<") > 50):
            continue  # an address in memory, which we refuse to print
        assert outcome(lambda: render(source, CONTEXT)) == expected, source
        rendered += expected is not None
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
        message("user", [{"type": "text", "text": "see"}, {"type": "image", "image": "x"}, {"type": "text", "text": "it"}]),
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
        message("assistant", "", tool_calls=[call({"city": "Bern", "days": 2, "f": 1.5, "n": None, "l": [1, "a"]})]),
        RESULT, message("assistant", "21"), message("user", "thanks"),
    ],
    "tool string": [message("user", "W?"), message("assistant", None, tool_calls=[call('{"city": "Bern"}')]), RESULT],
    "two tools": [
        message("user", "W?"), message("assistant", "let me see", tool_calls=[call({"city": "a"}), call({"city": "b"})]),
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
        reasoning = next(
            (each[key] for key in ("reasoning_content", "thinking", "reasoning") if each.get(key) is not None), None
        )
        extra = {} if reasoning is None else {"reasoning_content": reasoning}
        aliased.append({**({} if reasoning is None else {"thinking": reasoning}), **each, **extra})
    defaults = {"tools": None, "documents": None, "add_generation_prompt": False}
    return {**defaults, "bos_token": "<bos>", "eos_token": "<eos>", "messages": aliased, **options}


@pytest.mark.skipif(not TEMPLATES, reason=f"no chat templates under {SHARED}")
@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_real_template(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    expected = REFERENCE.from_string(source)
    template = ChatTemplate.from_bytes(compile_template(source))
    for name, messages in CONVERSATIONS.items():
        for options in OPTIONS:
            given = {"bos_token": "<bos>", "eos_token": "<eos>", "messages": messages, **options}
            complete = transformers_context(messages, options)
            want = outcome(lambda complete=complete: expected.render(**complete))  # type: ignore[misc]
            got = outcome(lambda given=given: template.render({**given, "now": NOW.isoformat()}))  # type: ignore[misc]
            assert got == want, f"{path.name}: {name}, {options}"


@pytest.mark.skipif(not CONFORMANCE, reason=f"no jinja cases under {SHARED}")
@pytest.mark.parametrize("path", CONFORMANCE, ids=lambda path: path.stem)
def test_conformance(path: Path) -> None:
    cases = json.loads(path.read_text(encoding="utf-8"))
    rendered = 0
    for case in cases:
        context = transformers_context([], {}) | (case.get("context") or case.get("data") or {})
        rendered += assert_same(case.get("template") or case.get("chat_template"), context)
    assert rendered > 0.8 * len(cases)


# ---- what is refused


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("a\n{% block x %}{% endblock %}", "line 2: 'Block' is not supported"),
        ("{% include 'x' %}", "line 1: 'Include'"),
        ("{% if x %}", "line 1: Unexpected end of template"),
        ("\n{{ x|wordwrap }}", "line 2: the filter 'wordwrap'"),
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
        "{{ '%1000000000d' % 1 }}",
        "{{ 'x'.center(100000000000) }}",
        "{{ 'aaaaaaaaaa' * 1000000 | replace('a', 'b' * 100000) }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% set ns = namespace(g=[1]) %}{% for i in range(1000) %}{% set ns.g = ns.g|map('string') %}{% endfor %}{{ ns.g|list }}",
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
        try:
            ChatTemplate.from_bytes(bytes(damaged)).render(CONTEXT)
        except EdgekitError:
            pass
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
    with pytest.raises(InvalidFile, match="tokenizer_config.json"):
        find_chat_template(write(tmp_path, {"tokenizer_config.json": text}))
