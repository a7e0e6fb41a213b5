"""Docstrings as plain text for a terminal: formulas in letters, headings without underlines."""

from __future__ import annotations

import re

__all__ = ["formula", "readable"]

_ACCENTS = r"\\(?:bar|hat|tilde|overline|dot|vec|widehat|underline)\s*"
_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi pi rho sigma tau phi varphi chi "
    "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
_FUNCTIONS = ("cos", "sin", "tan", "exp", "log", "min", "max", "tanh", "sinh", "cosh", "erf", "arg", "sech", "det")
_SYMBOLS = {
    **dict(zip(_GREEK.split(), "αβγδεεζηθκλμνξπρστφφχψωΓΔΘΛΞΠΣΦΨΩ", strict=True)),
    **{name: f"{name} " for name in _FUNCTIONS},
    "partial": "∂", "nabla": "∇", "int": "∫", "iint": "∫∫", "sum": "sum", "prod": "prod", "cdot": "·", "cdots": "..",
    "dots": "..", "ldots": "..", "times": "x", "otimes": "(x)", "infty": "∞", "propto": "~", "sim": "~", "approx": "≈",
    "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠", "ll": "<<", "gg": ">>", "in": "in",
    "to": "->", "mapsto": "->", "pm": "±", "mp": "∓", "langle": "<", "rangle": ">", "ell": "l", "star": "*",
    "ast": "*", "circ": "o", "mid": "|", "Vert": "||", "|": "||", "{": "{", "}": "}", ",": " ", ";": " ", ":": " ",
    "!": "", " ": " ", "quad": "   ", "qquad": "      ", "left": "", "right": "", "big": "", "Big": "", "bigl": "",
    "bigr": "", "Bigl": "", "Bigr": "", "bigg": "", "Bigg": "", "displaystyle": "", "limits": "", "prime": "'",
    "forall": "for all", "dagger": "+", "wedge": "^", "top": "T", "perp": "perp", "equiv": "=", "Re": "Re", "Im": "Im",
    "begin": "", "end": "",
}  # fmt: skip


def formula(tex: str) -> str:
    r"""A formula in plain letters.

    Examples
    --------
    >>> formula(r"E = \tfrac12 \iint K\, d\mu\, d\mu, \quad \tau\,KL(\mu|\mu_*) \le e^{-2 \alpha t}")
    'E = 1/2 ∫∫ K dμ dμ,   τ KL(μ|μ_*) ≤ e^(-2 α t)'
    """
    lines = [_line(line) for line in re.split(r"\\\\", tex)]
    return "\n".join(line for line in lines if line)


def _line(tex: str) -> str:
    """One line of a formula in plain letters."""
    text = " ".join(tex.split()).replace("&", "")
    text = re.sub(r"\\(begin|end)\{\w+\*?\}", "", text)
    upright = r"\\(?:mathrm|text|operatorname\*?|mathbf|mathcal|mathbb|boldsymbol|textrm)"
    text = re.sub(upright + r"\s*\{([^{}]*)\}", r" \1", text)
    text = re.sub(r"\\[td]?frac\s*(\w)\s*(\w)", r"\1/\2 ", text)
    # from the inside out: what is in the innermost braces holds no braces
    for _ in range(30):
        before = text
        text = re.sub(r"\\[td]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", lambda m: f"{_group(m[1])}/{_group(m[2])} ", text)
        text = re.sub(r"\\t?binom\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"C(\1, \2) ", text)
        text = re.sub(r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(_ACCENTS + r"\{([^{}]*)\}", lambda m: f"{_group(m[1])}'", text)
        text = re.sub(r"([_^])\{([^{}]*)\}", lambda m: m[1] + _group(m[2], m[1]), text)
        text = re.sub(r"(?<![\w\\_^}])\{([^{}\\]*)\}", r"\1", text)
        if text == before:
            break
    text = re.sub(_ACCENTS + r"(\\?\w+)", r"\1'", text)
    text = re.sub(r"\\([A-Za-z]+|.)", lambda m: _SYMBOLS.get(m[1], m[1]), text)
    text = re.sub(r"(?<!\s)\b(sum|prod)\b", r" \1", text)
    text = re.sub(rf"\b({'|'.join(_FUNCTIONS)}) (?=[\[(_^])", r"\1", text)
    text = re.sub(r"(?<=\S)  ?(?=[,.;)\]])", "", text)
    return re.sub(r"(?<=\S) {4,}", "   ", re.sub(r"(?<=[^\s,]) {2,}(?=\S)", " ", text)).strip()


def _group(inner: str, mark: str = "") -> str:
    """In parentheses, unless it is one thing: ``2k`` is none above, and is one below."""
    one = r"\\?\w+|[*+-]" if mark == "_" else r"\\[a-zA-Z]+|[a-zA-Z]|\d+|[*+-]"
    return inner if re.fullmatch(one, inner.strip()) else f"({inner})"


def readable(text: str) -> str:
    """A numpydoc docstring for a terminal."""
    lines = text.split("\n")
    out: list[str] = []
    i = 0
    indented = False
    while i < len(lines):
        line = lines[i]
        if i + 1 < len(lines) and line.strip() and re.fullmatch(r"-{3,}", lines[i + 1].strip()):
            out.append(line.strip())
            indented = True
            i += 2
            continue
        found = re.match(r"(\s*)\.\. math::(.*)", line)
        if found:
            margin, body = found[1], [found[2]]
            i += 1
            # blank lines belong to the formula where it goes on behind them
            while i < len(lines) and (
                _deeper(lines[i], margin) or (not lines[i].strip() and not "".join(body).strip())
            ):
                body.append(lines[i])
                i += 1
            shown = formula(" ".join(body).strip()).split("\n")
            out += ["  " * indented + margin + "    " + part for part in shown]
            continue
        out.append(("  " + line).rstrip() if indented else line)
        i += 1
    return _prose("\n".join(out).strip())


def _prose(text: str) -> str:
    """Marks of what is code, a name, a formula or strong."""
    text = re.sub(r":math:`([^`]+)`", lambda m: formula(m[1]), text)
    text = re.sub(r"``([^`]+)``", r"\1", text)
    text = re.sub(r"`([^`]+)`", r"\1", text)
    text = re.sub(r"(?<![\w)])\*\*([^*\s][^*]*)\*\*", r"\1", text)
    # powers in code, as in formulas; sets keep their braces
    return re.sub(r"([_^])\{([^{}\n]*)\}", lambda m: m[1] + _group(m[2], m[1]), text)


def _deeper(line: str, margin: str) -> bool:
    return bool(line.strip()) and len(line) - len(line.lstrip()) > len(margin)
