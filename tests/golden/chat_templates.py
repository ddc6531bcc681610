"""What Transformers renders for the built-in chat templates and for small ones that each use a part of the language.

Made with transformers 5.24.0 (its own Jinja environment).    python tests/golden/chat_templates.py BUILTINS_JSON
BUILTINS_JSON: {name: source}, as formats_chat_template_test writes it with DEEPSEEK_WRITE_BUILTINS=FILE.
Writes chat_templates/golden.json: {"conversations": {...}, "cases": [{name, source, messages, generate, variables, expected | null}]}.
"""

import json
import pathlib
import sys

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = pathlib.Path(__file__).resolve().parent
U, A, S = "user", "assistant", "system"


def talk(*turns):
    return [{"role": role, "content": content} for role, content in turns]


CONVERSATIONS = {
    "one": talk((U, "What is a bond?")),
    "answered": talk((U, "Hi"), (A, "Hello!")),
    "system": talk((S, "You are terse."), (U, "Hi"), (A, "Yes."), (U, "More?")),
    "blanks": talk((U, "  spaced \n"), (A, "\n answer  "), (U, "x")),
    "unicode": talk((U, "利率 👩‍👧 ‏שלום"), (A, "naïve"), (U, "e\u0301")),
    "braces": talk((U, "{{ messages }} {% if x %} {# no #}"), (A, "<|im_end|><eos>"), (U, "'\"\\")),
    "thinking": talk((U, "2+2?"), (A, "<think>\nfour\n</think>\n\n4"), (U, "3+3?")),
    "two_users": talk((U, "a"), (U, "b")),
    "empty": [],
    "long": talk(*[((U, A)[i % 2], f"turn {i}") for i in range(9)]),
}
SNIPPETS = [
    "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }} {% endfor %}",
    "{% for m in messages %}{{ (loop.previtem.content if loop.previtem is defined else '-') ~ '|' ~ (loop.nextitem.content if loop.nextitem is defined else '-') }};{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{% else %}none{% endfor %}",
    "{% set ns = namespace(found=false, n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if m['role'] == 'assistant' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }} {{ ns.n }}",
    "{% set x = 1 %}{% for m in messages %}{% set x = x + 1 %}{% endfor %}{{ x }}",
    "{% macro turn(role, text='none', end='.') %}[{{ role }}:{{ text }}{{ end }}]{% endmacro %}{{ turn('a') }}{{ turn('b', 'c') }}{{ turn(role='d', end='!') }}",
    "{%- for m in messages -%}\n  {{- m.role }}\n{%- endfor -%}\nend\n",
    "a\n  {% if true %}\n  b\n  {% endif %}\nc\n\n",
    "a {%+ if true %} b {% endif +%}\nc",
    "x\n    {# comment #}\ny {#- strip -#} z",
    "{% raw %}{{ not }} {% this %}{% endraw %}|{{ 'yes' }}",
    "{{ messages[0].content[:3] }}{{ messages[-1].content[-2:] }}{{ messages[::-1][0].role }}{{ 'abcdef'[1:5:2] }}",
    "{{ messages | length }} {{ messages | map(attribute='role') | join(',') }} {{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
    "{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | list }}",
    "{{ messages[0] | tojson }} {{ {'a': [1, 2.5, none, true], 'ü': {}} | tojson(indent=2) }} {{ [] | tojson }}",
    "{{ [1, 'a\\'b', none, true, 2.0, {'k': ['v']}] }}",
    "{{ 'Ab cD'.upper() }}{{ 'Ab cD'.lower() }}{{ 'ab cd'.title() }}{{ 'aB'.capitalize() }}{{ '  x '.strip() }}|{{ 'xxaxx'.strip('x') }}|{{ '  a'.lstrip() }}|{{ 'a  '.rstrip() }}|",
    "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a-b-c'.split('-', 1) }} {{ 'abc'.replace('b', 'X') }} {{ 'abc'.startswith('ab') }} {{ 'abc'.endswith(('x', 'c')) }}",
    "{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 2 ** 8 }} {{ 1.5 + 1 }} {{ 'a' ~ 1 ~ none }} {{ 'ab' * 2 }} {{ [1] + [2] }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' in 'abc' }} {{ 'x' not in ['a'] }} {{ 'role' in messages[0] }} {{ not true or true }} {{ (1 == 1.0) and none }}",
    "{{ 'yes' if messages else 'no' }} {{ '' if false }}| {{ undefined_thing }}| {{ undefined_thing is defined }} {{ undefined_thing | default('d') }} {{ '' | default('e', true) }}",
    "{{ none is none }} {{ 'a' is string }} {{ 1 is number }} {{ [] is iterable }} {{ {} is mapping }} {{ true is boolean }} {{ 3 is odd }} {{ 4 is even }} {{ 1 is not string }} {{ 5 is integer }} {{ 1.0 is float }} {{ 9 is divisibleby 3 }}",
    "{{ ['b', 'A', 'c'] | sort | join }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [1, 2, 1] | unique | list }} {{ 'abc' | reverse }} {{ [1, 2] | first }} {{ [1, 2] | last }} {{ {'b': 1, 'a': 2} | dictsort | map('last') | list }}",
    "{{ '3.7' | float }} {{ '42' | int }} {{ 'x' | int(7) }} {{ -3 | abs }} {{ 2.567 | round(1) }} {{ [1, 2, 3] | sum }} {{ [3, 1] | min }} {{ [3, 1] | max }} {{ 3.0 }}",
    "{{ 'a\\nb\\n\\nc' | indent(2) }}|{{ 'a\\nb' | indent(2, true) }}|{{ ' x ' | trim }}|{{ 'abc' | upper | lower | title | capitalize }}|{{ 'a' | replace('a', 'b') }}|{{ 5 | string ~ 'x' }}",
    "{% for a, b in {'x': 1, 'y': 2}.items() %}{{ a }}={{ b }};{% endfor %}{% for k in {'p': 0} %}{{ k }}{% endfor %}{% for c in 'ab' %}{{ c }}.{% endfor %}",
    "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}{% if i > 5 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ range(2, 8, 3) | list }}",
    "{% set text %}  block {{ 1 + 1 }} {% endset %}[{{ text }}]{% set a, b = 1, 2 %}{{ b }}{{ a }}",
    "{% filter upper %}abc {{ 'd' }}{% endfilter %}",
    "{% if a is defined %}a{% elif messages | length > 1 %}b{% else %}c{% endif %}",
    "{% generation %}kept{% endgeneration %}",
    "{{ bos_token }}{{ (messages | first).content | trim }}{{ eos_token }}{% if tools %}T{% endif %}{{ documents is none }}",
    "{{ messages[0].get('name', 'anon') }} {{ messages[0].missing is defined }} {{ messages[0]['content'] | length }} {{ messages[0].keys() | list }}",
    "{{ loop_cycle is defined }}{% for m in messages %}{{ loop.cycle('a', 'b') }}{% endfor %}",
    "{{ '\\u00e9\\t\\x41' }} {{ \"q'q\" }} {{ 'tab\\tx' }} {{ 1_000 }}",
    "{{ 'x' 'y' }} {{ (1, 2)[1] }} {{ [1,2,3,] }} {{ {'a': 1,} }}",
    "{{ messages | tojson(indent=4) }}",
    # What must fail.
    "{{ raise_exception('no') }}",
    "{{ undefined_thing.attribute }}",
    "{{ undefined_thing + 1 }}",
    "{% if %}",
    "{{ 'a' | nosuchfilter }}",
    "{% for x in 5 %}{% endfor %}",
    "{{ 1 / 0 }}",
    "{{ 'a' + 1 }}",
    "{{ [1].append(2) }}",
    "{% unknown %}",
    "{{ (1 }}",
    "{{ 'open }}",
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def render(source, messages, generate, variables):
    try:
        return _compile_jinja_template(source).render(messages=messages, tools=None, documents=None, add_generation_prompt=generate, **variables)
    except Exception:
        return None


def main():
    builtins = json.loads(pathlib.Path(sys.argv[1]).read_text())
    cases = []
    for name, source in builtins.items():
        for key, messages in CONVERSATIONS.items():
            for generate in (False, True):
                variables = dict(TOKENS)
                cases.append({"name": name, "messages": key, "generate": generate, "variables": variables, "expected": render(source, messages, generate, variables)})
        if name == "qwen3":
            variables = TOKENS | {"enable_thinking": False}
            cases.append({"name": name, "messages": "one", "generate": True, "variables": variables, "expected": render(source, CONVERSATIONS["one"], True, variables)})
    for source in SNIPPETS:
        for key in ("system", "braces"):
            cases.append({"source": source, "messages": key, "generate": False, "variables": TOKENS, "expected": render(source, CONVERSATIONS[key], False, TOKENS)})
    out = {"conversations": CONVERSATIONS, "cases": cases}
    (HERE / "chat_templates" / "golden.json").write_text(json.dumps(out, ensure_ascii=True, indent=0) + "\n")
    print(f"{len(cases)} cases, {sum(c['expected'] is None for c in cases)} of them refused")


if __name__ == "__main__":
    main()
