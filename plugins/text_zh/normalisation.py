"""Written Chinese -> the characters a reader says: numbers, dates, times, money, telephones, units, signs.

A list of rules, each one pattern and one reader, applied in order over the whole text. Every pattern is bounded, so the
time is linear in the length. What nobody can read (emoji, other scripts) is dropped at the end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from appliance_plugins.text_zh.numbers import read_digits, read_integer, read_number

Reader = Callable[[re.Match[str]], str]

_NUMBER = r"\d{1,3}(?:,\d{3}){1,8}(?:\.\d{1,32})?|\d{1,32}(?:\.\d{1,32})?"  # longer runs of digits are read first
_SIGNED = rf"(?:(?<![A-Za-z0-9.)-])[-+−])?(?:{_NUMBER})"
_TO = r"\s?[-~–—－～至到]\s?"

_CURRENCIES = {
    "¥": "元", "￥": "元", "$": "美元", "US$": "美元", "HK$": "港元", "€": "欧元", "£": "英镑", "₩": "韩元",
    "₽": "卢布", "RMB": "元", "CNY": "元", "USD": "美元", "EUR": "欧元", "GBP": "英镑", "JPY": "日元",
    "HKD": "港元",
}  # fmt: skip
_UNITS = {
    "km/h": "公里每小时", "m/s": "米每秒", "kWh": "千瓦时", "km2": "平方公里", "cm2": "平方厘米", "m2": "平方米",
    "m3": "立方米", "km": "公里", "cm": "厘米", "mm": "毫米", "m": "米", "kg": "公斤", "mg": "毫克", "g": "克",
    "t": "吨", "ml": "毫升", "mL": "毫升", "L": "升", "l": "升", "kW": "千瓦", "W": "瓦", "V": "伏", "Hz": "赫兹",
    "kHz": "千赫", "MHz": "兆赫", "GHz": "吉赫", "KB": "千字节", "MB": "兆", "GB": "G", "TB": "T",
    "Mbps": "兆每秒", "dB": "分贝", "h": "小时", "min": "分钟", "s": "秒", "ms": "毫秒", "°C": "摄氏度",
    "°F": "华氏度", "°": "度", "℃": "摄氏度", "mAh": "毫安时", "px": "像素",
}  # fmt: skip
_SIGNS = {
    "+": "加", "×": "乘", "÷": "除以", "=": "等于", "≈": "约等于", "≠": "不等于", "≤": "小于等于",
    "≥": "大于等于", "<": "小于", ">": "大于", "±": "正负", "&": "和", "%": "百分号", "‰": "千分号",
    "℃": "摄氏度", "°C": "摄氏度", "°": "度", "@": "艾特", "の": "的", "Ω": "欧姆", "π": "派", "α": "阿尔法",
    "β": "贝塔", "γ": "伽马",
}  # fmt: skip
_MEASURES = (
    "个只条位名次张本件台辆间座瓶杯碗份套双对种类家头匹把支枝根块片颗粒朵棵场遍趟回句段篇首部门天周年岁倍元角吨克升米秒里斤亩"
    "千万亿分"
)

_MARKS = {
    ",": "，", ";": "；", ":": "：", "?": "？", "!": "！", "｡": "。", "､": "、", "(": "（", ")": "）",
    "[": "（", "]": "）", "【": "（", "】": "）", "〔": "（", "〕": "）", "{": "（", "}": "）", "《": "“",
    "》": "”", "〈": "“", "〉": "”", "「": "“", "」": "”", "『": "“", "』": "”", "‘": "“", "’": "”", "–": "—",
    "―": "—", "－": "，", "·": "", "・": "", "\n": "。",
}  # fmt: skip
_PUNCTUATION = "，。、；：？！…—“”（）"


def normalise(text: str) -> str:
    """Only ideographs, Latin letters, blanks and the marks ，。、；：？！…—“”（） come out."""
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text))
    text = re.sub(r"…+|\.{3,}|。{2,}", "…", _COMPATIBLE.sub(lambda m: unicodedata.normalize("NFKC", m.group()), text))
    for pattern, reader in _RULES:
        text = pattern.sub(reader, text)
    return _tidy(text)


def _tidy(text: str) -> str:
    text = _SIGN.sub(lambda m: _SIGNS[m.group()], text)
    text = re.sub(r"(?<![A-Za-z])\.(?=\s|$)|\.(?![A-Za-z])", "。", text)
    text = re.sub(r"\n+", "\n", text).translate(_TRANSLATION)
    text = re.sub(r'"([^"\n]{0,200})"', r"“\1”", text)
    text = _UNREADABLE.sub(" ", text)
    text = re.sub(rf"\s*([{_PUNCTUATION}])\s*", r"\1", text)
    text = re.sub(r"([，、；：。？！…—])[，、；：。…—]+", r"\1", text)  # the first mark of a run counts
    text = re.sub(r"(?<=[一-鿿])\s+(?=[一-鿿])", "", text)
    text = re.sub(r"\s+", " ", text).strip().lstrip("，。、；：？！…— ")
    return text if any(c.isalpha() for c in text) else ""


_COMPATIBLE = re.compile("[^，。：；！？（）…]+")  # a wide comma must not become one that groups thousands
_TRANSLATION = str.maketrans(_MARKS)
_SIGN = re.compile("|".join(re.escape(s) for s in sorted(_SIGNS, key=len, reverse=True)))
_UNREADABLE = re.compile(rf"[^A-Za-z{_PUNCTUATION}〇㐀-䶿一-鿿豈-﫿𠀀-𯨟\s]+")


# ---------------------------------------------------------------- readers


def _amount(number: str) -> str:
    """Decimals of money lose their trailing zeros: 12.50 -> 十二点五."""
    number = number.replace(",", "")
    words: str = read_number(number.rstrip("0").rstrip(".") if "." in number else number)
    return words


def _signed(number: str) -> str:
    words: str = read_number(number.replace("−", "-").replace("+", "").replace(" ", ""))
    return words


def _date(match: re.Match[str]) -> str:
    year, month, day = match.group("y", "m", "d")
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return match.group()
    return f"{read_digits(year)}年{read_integer(month.lstrip('0'))}月{read_integer(day.lstrip('0'))}日"


def _month_day(match: re.Match[str]) -> str:
    month, day, unit = match.group(1), match.group(2), match.group(3)
    return f"{read_integer(month.lstrip('0') or '0')}月{read_integer(day.lstrip('0') or '0')}{unit}"


def _clock(hour: str, minute: str, second: str | None) -> str:
    words = ("两" if int(hour) == 2 else read_integer(str(int(hour)))) + "点"
    if int(minute):
        words += ("零" if int(minute) < 10 else "") + read_integer(str(int(minute))) + "分"
    elif second is not None and int(second):
        words += "零分"
    if second is not None and int(second):
        words += ("零" if int(second) < 10 else "") + read_integer(str(int(second))) + "秒"
    return words


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = match.group("h", "m", "s", "half")
    if int(hour) > 24 or int(minute) > 59 or (second and int(second) > 59):
        return f"{read_number(hour)}比{read_number(minute)}" if not second else match.group()
    prefix = {"a": "上午", "p": "下午", "": ""}[(half or "")[:1].lower()]
    return prefix + _clock(hour, minute, second)


def _ratio(match: re.Match[str]) -> str:
    return f"{read_number(match.group(1))}比{read_number(match.group(2))}"


def _telephone(match: re.Match[str]) -> str:
    groups = re.findall(r"\d+", match.group("n"))
    if len(groups) == 1 and len(groups[0]) == 11:
        groups = [groups[0][:3], groups[0][3:7], groups[0][7:]]
    spoken = "，".join(read_digits(group, one="幺") for group in groups)
    prefix = match.groupdict().get("lead") or ""
    country = match.groupdict().get("country")
    return prefix + ("加八六，" if country else "") + spoken


def _percent(match: re.Match[str]) -> str:
    whole = "千分之" if match.group("sign") == "‰" else "百分之"
    low, high = match.group("low"), match.group("high")
    words = ("负" if low.startswith(("-", "−")) else "") + whole + read_number(low.lstrip("-−+"))
    return f"{words}到{whole}{read_number(high.lstrip('-−+'))}" if high else words


def _money(match: re.Match[str]) -> str:
    sign, low, high, scale = match.group("c", "low", "high", "scale")
    words = _pair(_amount(low)) + (f"到{_pair(_amount(high))}" if high else "")
    return words + (scale or "") + _CURRENCIES.get(sign, sign)


def _pair(words: str) -> str:
    return "两" if words == "二" else words


def _measure(match: re.Match[str]) -> str:
    low, high, unit = match.group("low", "high", "unit")
    word = _UNITS[unit]
    if unit in ("°C", "°F", "°"):
        return "到".join((("零下" + _signed(n)[1:]) if n[0] in "-−" else _signed(n)) + word for n in (low, high) if n)
    return "到".join(_pair(_signed(n)) for n in (low, high) if n) + word


def _fraction(match: re.Match[str]) -> str:
    return f"{read_integer(match.group(2))}分之{read_integer(match.group(1))}"


def _range(match: re.Match[str]) -> str:
    after = match.string[match.end() : match.end() + 1]
    low, high = _signed(match.group(1)), _signed(match.group(2))
    is_counted = bool(after) and after in _MEASURES
    return f"{_pair(low)}到{_pair(high)}" if is_counted else f"{low}到{high}"


def _dashed(match: re.Match[str]) -> str:
    return "杠".join(read_digits(part, one="幺") for part in re.split("[-–]", match.group()))


def _dotted(match: re.Match[str]) -> str:
    return "点".join(str(read_integer(part)) for part in match.group().split("."))


def _coded(match: re.Match[str]) -> str:
    return f"{match.group('lead')}{read_digits(match.group('n'), one='幺')}"


def _plain(match: re.Match[str]) -> str:
    number = match.group().replace("−", "-")
    digits = number.lstrip("-+").replace(",", "")
    after = match.string[match.end() : match.end() + 1].strip(" ，。、；：？！,.;:?!")
    if "." not in digits and len(digits) > 8 and not after:
        number_words: str = read_digits(digits, one="幺")  # a long number without a unit is an identifier
        return number_words
    return _signed(number)


def _alternation(words: dict[str, str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_DAY_HALF = r"(?:\s?(?P<half>[AaPp])\.?[Mm]\b\.?)?"
_TIME = rf"(?<![\d:：])(?P<h>\d{{1,2}})[:：](?P<m>\d{{2}})(?:[:：](?P<s>\d{{2}}))?{_DAY_HALF}(?![\d:：])"
_SUM = rf"(?P<low>{_NUMBER})(?:元?{_TO}(?P<high>{_NUMBER}))?\s?(?P<scale>[百千万亿]{{1,4}})?"
_UNIT = rf"(?P<unit>{_alternation(_UNITS)})"
_NOTICE = r"(?:电话|热线|拨打|致电|手机号?码?|传真|号码)[是为:：\s]{0,3}"
_CODE = (
    r"(?:(?:房间|房号|编号|单号|订单|密码|验证码|邮编|尾号|账号|卡号|学号|工号|车牌|航班|车次|代码|QQ)[是为号:：\s]{0,3}[A-Z]{0,3}"
    r"|(?<![A-Za-z])[A-Z]{1,2})"
)

_RULES: tuple[tuple[re.Pattern[str], Reader], ...] = tuple(
    (re.compile(pattern), reader)
    for pattern, reader in (
        (r"\d{33,}", lambda m: read_digits(m.group())),
        # dates and years
        (r"(?<!\d)(?P<y>\d{4})\s?[-/.年]\s?(?P<m>\d{1,2})\s?[-/.月]\s?(?P<d>\d{1,2})(?!\d)\s?[日号]?", _date),
        (r"(?<!\d)(\d{1,2})\s?月\s?(\d{1,2})\s?([日号])", _month_day),
        (rf"(?<!\d)(\d{{4}}){_TO}(\d{{4}})\s?(?=年)", lambda m: f"{read_digits(m[1])}到{read_digits(m[2])}"),
        (r"(?<!\d)((?:1[1-9]|20)\d{2}|0\d)\s?(?=年)", lambda m: read_digits(m[1])),
        # from .. to
        (r"(?<=\d)\s?[-~–—～]\s?(?=\d{1,2}[:：]\d{2}(?!\d))", lambda m: "到"),
        (r"(?<=[点日月年号分时级岁元度])\s?[-~–—～]\s?(?=\d)", lambda m: "到"),
        # times of day; "2:1" is a score
        (_TIME, _time),
        (r"(?<![\d:：.])(\d{1,8})\s?[:：]\s?(\d{1,8})(?![\d:：.])", _ratio),
        (r"(?<!\d)2\s?(?=点(?!\d)|时(?!\d))", lambda m: "两"),
        # telephones
        (r"(?:(?P<country>\+?86)[-\s]?|(?<!\d))(?P<n>1[3-9]\d[-\s]?\d{4}[-\s]?\d{4})(?!\d)", _telephone),
        (r"(?<!\d)(?P<n>\(?0\d{2,3}\)?[-\s]\d{7,8}|[48]00[-\s]?\d{3,4}[-\s]?\d{3,4})(?!\d)", _telephone),
        (rf"(?P<lead>{_NOTICE})(?P<n>\+?\d[\d-]{{1,18}}\d)(?!\d)", _telephone),
        # shares, money, measures
        (rf"(?P<low>[-+−]?(?:{_NUMBER}))\s?%?(?:{_TO}(?P<high>(?:{_NUMBER})))?\s?(?P<sign>[%‰])", _percent),
        (rf"(?P<c>{_alternation(_CURRENCIES)})\s?{_SUM}元?", _money),
        (rf"{_SUM}\s?(?P<c>RMB|CNY|USD|EUR|GBP|JPY|HKD|€|£|美元|欧元|元)(?![A-Za-z])", _money),
        (rf"(?P<low>{_SIGNED})(?:(?:°C?)?{_TO}(?P<high>[-−]?(?:{_NUMBER})))?\s?{_UNIT}(?![A-Za-z0-9])", _measure),
        (r"(?<![\d/.])(\d{1,4})\s?/\s?(\d{1,4})(?![\d/.])", _fraction),
        # identifiers
        (r"(?<![\d.-])\d{1,9}(?:[-–]\d{1,9}){2,9}(?![\d-])", _dashed),
        (r"(?<![\d.])\d{1,6}(?:\.\d{1,6}){2,5}(?![\d.])", _dotted),
        (rf"(?P<lead>{_CODE})(?P<n>\d{{3,}})(?![\d%]|[.,]\d)", _coded),
        (r"(?<![\d.,第])(?P<lead>)(?P<n>\d{3,4})(?=[室房](?!间)|号房)", _coded),
        # amounts
        (rf"(?<![\d.-])({_NUMBER}){_TO}({_NUMBER})(?![\d-])", _range),
        (rf"(?<![\d.,第])2\s?(?=(?:多)?[{_MEASURES}小公英平立](?!月|号))", lambda m: "两"),
        (_SIGNED, _plain),
    )
)
