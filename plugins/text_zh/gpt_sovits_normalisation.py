"""Written Chinese -> the characters and six marks that GPT-SoVITS' Chinese models were trained on.

The models saw texts that went through PaddleSpeech's normaliser, odd readings included (400-820-8820 is a subtraction,
3:2 loses its colon, every stray m is a metre), so the same rules run here in the same order, and the odd readings stay:
phones that training never saw in that place would sound worse. `normalisation` is the better reader of the two and
serves the engines without such a history.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from appliance_plugins.text_zh.gpt_sovits_numbers import read_cardinal, read_decimal, read_each

Reader = Callable[[re.Match[str]], str]

_DIGIT = "[0-9]"
_NUMBER = rf"{_DIGIT}+(?:\.{_DIGIT}+)?"
_UNIT = "%|°C|℃|度|摄氏度|cm2|cm²|cm3|cm³|cm|db|ds|kg|km|m2|m²|m³|m3|ml|m|mm|s"
_CLOCK = rf"([0-1]?{_DIGIT}|2[0-3]):([0-5]{_DIGIT})(?::([0-5]{_DIGIT}))?"
_POWERS = "⁰¹²³⁴⁵⁶⁷⁸⁹ˣʸⁿ"
_POWER_VALUES = str.maketrans(_POWERS, "0123456789xyn")
_TERM = rf"(?:-?{_NUMBER}[{_POWERS}]*|\.{_DIGIT}+[{_POWERS}]*|[A-Za-z][{_POWERS}]*)"
_OPERATORS = {"+": "加", "-": "减", "×": "乘", "÷": "除", "=": "等于"}
_ARITHMETIC = re.compile(rf"({_TERM})([-+×÷=])({_TERM})")

# applied as plain replacements in this order: so mm is two metres, and the s of "USB" would be a second
_UNITS = {
    "cm2": "平方厘米", "cm²": "平方厘米", "cm3": "立方厘米", "cm³": "立方厘米", "cm": "厘米", "db": "分贝",
    "ds": "毫秒", "kg": "千克", "km": "千米", "m2": "平方米", "m²": "平方米", "m³": "立方米", "m3": "立方米",
    "ml": "毫升", "m": "米", "s": "秒",
}  # fmt: skip
_SIGNS = {
    "/": "每", "~": "至", "～": "至", "①": "一", "②": "二", "③": "三", "④": "四", "⑤": "五", "⑥": "六", "⑦": "七",
    "⑧": "八", "⑨": "九", "⑩": "十", "α": "阿尔法", "β": "贝塔", "γ": "伽玛", "Γ": "伽玛", "δ": "德尔塔", "Δ": "德尔塔",
    "ε": "艾普西龙", "ζ": "捷塔", "η": "依塔", "θ": "西塔", "Θ": "西塔", "ι": "艾欧塔", "κ": "喀帕", "λ": "拉姆达",
    "Λ": "拉姆达", "μ": "缪", "ν": "拗", "ξ": "克西", "Ξ": "克西", "ο": "欧米克伦", "π": "派", "Π": "派", "ρ": "肉",
    "ς": "西格玛", "Σ": "西格玛", "σ": "西格玛", "τ": "套", "υ": "宇普西龙", "φ": "服艾", "Φ": "服艾", "χ": "器",
    "ψ": "普赛", "Ψ": "普赛", "ω": "欧米伽", "Ω": "欧米伽", "+": "加", "-": "减", "×": "乘", "÷": "除", "=": "等",
}  # fmt: skip
_MEASURES = (
    "处台架枚趟幅平方堵间床株批项例列篇栋注亩封艘把目套段人所朵匹张座回场尾条个首阙阵网炮顶丘棵只支袭辆挑担颗壳窠曲墙群腔砣客"
    "贯扎捆刀令打手罗坡山岭江溪钟队单双对出口头脚板跳枝件贴针线管名位身堂课本页家户层丝毫厘分钱两斤铢石钧锱忽寸尺丈里寻常铺程"
    "米撮勺合升斗盘碗碟叠桶笼盆盒杯斛锅簋篮罐瓶壶卮盏箩箱煲啖袋钵年月日季刻时周天秒小旬纪岁世更夜春夏秋冬代伏辈丸泡粒幢堆根道面"
    "片块元吨角毛亿万千百"
)
_LONG_MEASURES = (
    "[千毫微]克|公分|[千厘毫微]米|小时|[千百]万|(?:[千百]?万|[亿千百美])元|(?:[千百]?万|[亿千百十])吨|"
    "(?:[千百]?万|[亿千百])块"
)

_BRACKETS = re.compile(r"——|[—《》【】<>{}()（）#&@“”^_|\\]")
_LEFTOVERS = re.compile(r"[-—《》【】<=>{}()（）#&@“”^_|\\]")
_CLAUSE_END = re.compile(r"(?<=[：、，；。？！,;?!])(?![”’])|(?<=[：、，；。？！,;?!][”’])|\n+")
_HALF_WIDTH = {
    code + 0xFEE0: code
    for first, last in (("A", "Z"), ("a", "z"), ("0", "9"))
    for code in range(ord(first), ord(last) + 1)
}

_LONG_DIGITS = re.compile("[0-9]{65,}")  # no amount, and patterns that look for one would take quadratic time

_HUMS = {"嗯": "恩", "呣": "母"}
_MARKS = {
    "：": ",", "；": ",", "，": ",", "。": ".", "！": "!", "？": "?", "\n": ".", "·": ",", "、": ",", "...": "…",
    "$": ".", "/": ",", "—": "-", "~": "…", "～": "…",
}  # fmt: skip
_UNSPOKEN = re.compile(r"[^一-龥!?…,.\-]+")
_REPEATED = re.compile(r"([!?…,.\-])[!?…,.\-]+")


def normalise(text: str, simplify: Callable[[str], str], *, is_reduced: bool = True) -> str:
    """Ideographs and `! ? … , . -` only; `simplify` turns traditional characters into simplified ones.

    With `is_reduced` a run of marks becomes its first mark (v2; v1 keeps them all).
    """
    spoken = "".join(write_marks(clause, _MARKS, _HUMS) for clause in speak_clauses(text, simplify))
    return str(_REPEATED.sub(r"\1", spoken)) if is_reduced else spoken


def speak_clauses(text: str, simplify: Callable[[str], str]) -> list[str]:
    """The clauses of `text` with numbers, units and signs as characters; marks as they were written."""
    text = _BRACKETS.sub("", text.replace(" ", ""))
    return [_speak_clause(simplify(clause.strip())) for clause in _CLAUSE_END.split(text.strip())]


def write_marks(clause: str, marks: Mapping[str, str], words: Mapping[str, str]) -> str:
    """`words`, then `marks` replaced; then everything that is no ideograph and none of the six marks is deleted."""
    for written, spoken in words.items():
        clause = clause.replace(written, spoken)
    pattern = "|".join(re.escape(mark) for mark in marks)
    return _UNSPOKEN.sub("", re.sub(pattern, lambda found: marks[found.group()], clause))


def _speak_clause(clause: str) -> str:
    clause = _LONG_DIGITS.sub(lambda m: read_each(m[0], one="幺"), clause.translate(_HALF_WIDTH))
    for pattern, reader in _BEFORE_UNITS:
        clause = pattern.sub(reader, clause)
    for written, spoken in _UNITS.items():
        clause = clause.replace(written, spoken)
    while (changed := _ARITHMETIC.sub(lambda m: m[1] + _OPERATORS[m[2]] + m[3], clause)) != clause:
        clause = changed
    for pattern, reader in _AFTER_UNITS:
        clause = pattern.sub(reader, clause)
    for written, spoken in _SIGNS.items():
        clause = clause.replace(written, spoken)
    return _LEFTOVERS.sub("", clause)


def _read_signed(number: str) -> str:
    return f"{'负' if number.startswith('-') else ''}{read_decimal(number.removeprefix('-'))}"


def _read_date(match: re.Match[str]) -> str:
    year, month, day, name = match.groups()
    words = f"{read_each(year)}年"
    words += f"{read_cardinal(month)}月" if month else ""
    return words + (f"{read_cardinal(day)}{name}" if day else "")


def _read_numeric_date(match: re.Match[str]) -> str:
    return f"{read_each(match[1])}年{read_cardinal(match[3])}月{read_cardinal(match[4])}日"


def _read_sixtieth(digits: str) -> str:
    return f"{'零' if digits.startswith('0') else ''}{read_cardinal(digits.lstrip('0'))}"


def _read_clock(hour: str, minute: str, second: str | None, *, is_half: bool) -> str:
    words = f"{read_cardinal(hour)}点"
    if int(minute):
        words += "半" if is_half else f"{_read_sixtieth(minute)}分"
    return words + (f"{_read_sixtieth(second)}秒" if second and int(second) else "")


def _read_time(match: re.Match[str]) -> str:
    return _read_clock(match[1], match[2], match[3], is_half=match[2] == "30")


def _read_time_range(match: re.Match[str]) -> str:
    is_half = match[2] == "30"  # of the first time, for both: so the models heard it
    first = _read_clock(match[1], match[2], match[3], is_half=is_half)
    return f"{first}至{_read_clock(match[4], match[5], match[6], is_half=is_half)}"


def _read_temperature(match: re.Match[str]) -> str:
    unit = "摄氏度" if match[3] == "摄氏度" else "度"
    return f"{'零下' if match[1] else ''}{read_decimal(match[2])}{unit}"


def _read_fraction(match: re.Match[str]) -> str:
    return f"{'负' if match[1] else ''}{read_cardinal(match[3])}分之{read_cardinal(match[2])}"


def _read_percentage(match: re.Match[str]) -> str:
    return f"{'负' if match[1] else ''}百分之{read_decimal(match[2])}"


def _read_mobile(match: re.Match[str]) -> str:
    return "，".join(read_each(part, one="幺") for part in match[0].strip("+").split())


def _read_telephone(match: re.Match[str]) -> str:
    return "，".join(read_each(part, one="幺") for part in match[0].split("-"))


def _read_version(match: re.Match[str]) -> str:
    return "".join("点" if character == "." else read_cardinal(character) for character in match[0])


def _read_measured(match: re.Match[str]) -> str:
    number = read_cardinal(match[1])
    more = {"+": "多", None: ""}.get(match[2], match[2])
    return f"{'两' if number == '二' else number}{more}{match[3]}"


def _read_number(match: re.Match[str]) -> str:
    return _read_signed(match[0])


_BEFORE_UNITS: tuple[tuple[re.Pattern[str], Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"([0-9]{4}|[0-9]{2})年(?:(0?[1-9]|1[0-2])月)?(?:(0?[1-9]|[12][0-9]|30|31)([日号]))?", _read_date),
        (r"([0-9]{4})([- /.])(0[1-9]|1[012])\2(0[1-9]|[12][0-9]|3[01])", _read_numeric_date),
        (rf"{_CLOCK}[~-]{_CLOCK}", _read_time_range),
        (_CLOCK, _read_time),
        (
            rf"(?:-?{_NUMBER}|\.{_DIGIT}+)(?:{_UNIT})~(?:-?{_NUMBER}|\.{_DIGIT}+)(?:{_UNIT})",
            lambda m: m[0].replace("~", "至"),
        ),
        (rf"(-?)({_NUMBER})(°C|℃|度|摄氏度)", _read_temperature),
    )
)
_AFTER_UNITS: tuple[tuple[re.Pattern[str], Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (rf"[{_POWERS}]+", lambda m: f"的{m[0].translate(_POWER_VALUES)}次方"),
        (r"(-?)([0-9]+)/([0-9]+)", _read_fraction),
        (rf"(-?)({_NUMBER})%", _read_percentage),
        (r"(?<![0-9])(?:\+?86 ?)?1(?:[38][0-9]|5[0-35-9]|7[678]|9[89])[0-9]{8}(?![0-9])", _read_mobile),
        (r"(?<![0-9])(?:0(?:10|2[1-3]|[3-9][0-9]{2})-?)?[1-9][0-9]{6,7}(?![0-9])", _read_telephone),
        (r"400-?[0-9]{3}-?[0-9]{4}", _read_telephone),
        (
            rf"(?<![0-9+×÷=-])(-?{_NUMBER})[-~](-?{_NUMBER})(?![0-9+×÷=-])",
            lambda m: f"{_read_signed(m[1])}到{_read_signed(m[2])}",
        ),
        (r"-[0-9]+", lambda m: f"负{read_cardinal(m[0][1:])}"),
        (r"[0-9]+(?:\.[0-9]+){2,}", _read_version),
        (r"-?[0-9]+\.[0-9]+|\.[0-9]+", _read_number),
        (rf"([0-9]+)([多余几+])?({_LONG_MEASURES}|[{_MEASURES}])", _read_measured),
        (r"[0-9]{3,}", lambda m: read_each(m[0], one="幺")),
        (rf"-?{_NUMBER}|\.[0-9]+", _read_number),
    )
)
