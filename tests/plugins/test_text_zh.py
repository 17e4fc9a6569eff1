"""Mandarin: what is read out, in which tones, and how it is spelt."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from appliance_plugins.text_zh.frontend import MandarinFrontend
from appliance_plugins.text_zh.kokoro_symbols import spell_syllable
from appliance_plugins.text_zh.normalisation import normalise
from appliance_plugins.text_zh.numbers import read_integer, read_number
from appliance_plugins.text_zh.pinyin import Lexicon, load_lexicon, read_text


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return load_lexicon()


@pytest.mark.parametrize(
    ("digits", "words"),
    [
        ("0", "零"), ("10", "十"), ("15", "十五"), ("20", "二十"), ("100", "一百"), ("105", "一百零五"),
        ("110", "一百一十"),
        ("1050", "一千零五十"), ("2000", "两千"), ("10000", "一万"), ("10500", "一万零五百"), ("20000", "两万"),
        ("100500", "十万零五百"), ("105000", "十万五千"), ("100001000", "一亿零一千"), ("200000005", "两亿零五"),
        ("007", "零零七"),
    ],
)  # fmt: skip
def test_cardinals(digits: str, words: str) -> None:
    assert read_integer(digits) == words


def test_decimals_and_signs() -> None:
    assert read_number("-1,234.50") == "负一千二百三十四点五零"
    assert len(read_number("9" * 1000)) == 1000


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("今天是2024年3月5日。", "今天是二零二四年三月五日。"),
        ("2024-11-08 14:00-16:30", "二零二四年十一月八日十四点到十六点三十分"),
        ("早上9:30开门，21:05关门", "早上九点三十分开门，二十一点零五分关门"),
        ("9：30开始", "九点三十分开始"),
        ("1998-2005年", "一九九八到二零零五年"),
        ("增长12.5%，5%-10%，-3%", "增长百分之十二点五，百分之五到百分之十，负百分之三"),
        ("¥1,299.00，$180，€165.5万", "一千二百九十九元，一百八十美元，一百六十五点五万欧元"),
        ("只要239.20元", "只要二百三十九点二元"),
        ("100万美元", "一百万美元"),
        ("电话13812345678", "电话幺三八，幺二三四，五六七八"),
        ("客服400-820-8820，座机010-62345678", "客服四零零，八二零，八八二零，座机零幺零，六二三四五六七八"),
        ("拨打110", "拨打幺幺零"),
        ("-5℃~3℃", "零下五摄氏度到三摄氏度"),
        ("120km/h，89.5㎡，2kg", "一百二十公里每小时，八十九点五平方米，两公斤"),
        ("2个苹果，第2个，2点，2月2日，2楼", "两个苹果，第二个，两点，二月二日，二楼"),
        ("3/4的人，比分3:2", "四分之三的人，比分三比二"),
        ("302室，验证码 4821", "三零二室，验证码四八二幺"),
        ("3-5天，10点～11点", "三到五天，十点到十一点"),
        ("5，100人", "五，一百人"),  # a wide comma separates, it does not group
        ("版本2.0.1", "版本二点零点一"),
        ("1+1=2", "一加一等于二"),
        ("好😀の世界™", "好的世界"),
        ("他说:\"你好!\"然后...", "他说：“你好！”然后…"),
        ("！！！，，。", ""),
    ],
)  # fmt: skip
def test_normalisation(written: str, spoken: str) -> None:
    assert normalise(written).replace("TM", "") == spoken


@pytest.mark.parametrize(
    ("text", "pinyin"),
    [
        ("银行行长在重庆长大", "yin2 hang2 hang2 zhang3 zai4 chong2 qing4 zhang3 da4"),
        ("他得了重病还得还钱", "ta1 de2 le5 zhong4 bing4 hai2 dei3 huan2 qian2"),
        ("慢慢地走过地面", "man4 man4 de5 zou3 guo4 di4 mian4"),
        ("这只小狗和一种水果", "zhe4 zhi1 xiao2 gou3 he2 yi4 zhong3 shui2 guo3"),
        ("时间为三点，为您服务", "shi2 jian1 wei2 san1 dian3 wei4 nin2 fu2 wu4"),
        ("打烊", "da3 yang4"),
        ("你好", "ni2 hao3"),
        ("展览馆", "zhan2 lan2 guan3"),
        ("我很好", "wo2 hen2 hao3"),
        ("一个", "yi2 ge5"),
        ("一天一年", "yi4 tian1 yi4 nian2"),
        ("第一名", "di4 yi1 ming2"),
        ("一百一十一", "yi4 bai3 yi1 shi2 yi1"),
        ("统一", "tong3 yi1"),
        ("看一看", "kan4 yi5 kan4"),
        ("不对不好", "bu2 dui4 bu4 hao3"),
        ("好不好", "hao3 bu5 hao3"),
        ("一会儿玩儿", "yi2 hui4 r5 wan2 r5"),
        ("女儿", "nv3 er2"),
        ("幺三零", "yao1 san1 ling2"),
        ("歡迎光臨", "huan1 ying2 guang1 lin2"),
    ],
)
def test_readings(text: str, pinyin: str, lexicon: Lexicon) -> None:
    assert " ".join(s.pinyin for s in read_text(text, lexicon) if s.pinyin) == pinyin


@pytest.mark.parametrize(
    ("pinyin", "symbols"),
    [
        ("huan1", "xwa→n"), ("ying2", "ji↗ŋ"), ("yi1", "ji→"), ("wu3", "wu↓"), ("yu4", "ɥy↘"), ("yuan2", "ɥɛ↗n"),
        ("yue4", "ɥe↘"), ("you3", "jou↓"), ("wei4", "wei↘"), ("weng1", "wə→ŋ"), ("zhong1", "ꭧʊ→ŋ"), ("zhi1", "ꭧɨ→"),
        ("si4", "sɨ↘"), ("xue2", "ɕɥe↗"), ("jun1", "ʨy→n"), ("nv3", "ny↓"), ("lve4", "lɥe↘"), ("liu4", "ljou↘"),
        ("gui4", "kwei↘"), ("dun1", "twə→n"), ("er4", "əɹ↘"), ("bo1", "pwo→"), ("de5", "tɤ"), ("a5", "a"),
        ("ang2", "a↗ŋ"),
        ("xyz9", ""),
    ],
)  # fmt: skip
def test_symbols(pinyin: str, symbols: str) -> None:
    assert spell_syllable(pinyin) == symbols


def test_every_syllable_that_pypinyin_knows_is_spelt_differently() -> None:
    from pypinyin.constants import PINYIN_DICT
    from pypinyin.contrib.tone_convert import to_tone3

    rows = (row.split(",") for row in PINYIN_DICT.values())
    known = {to_tone3(p, v_to_u=False, neutral_tone_with_five=True) for row in rows for p in row}
    hummed = ("m", "n", "ng", "hm", "hng")
    plain = sorted(p for p in known if p.isascii() and p[:-1] not in (*hummed, "lo"))
    assert len(plain) > 1200
    spelt = {p: spell_syllable(p) for p in plain}
    assert not [p for p, symbols in spelt.items() if not symbols]
    assert len(set(spelt.values())) == len(plain)  # no two syllables sound alike by mistake


def test_every_character_has_its_span_and_syllables_are_apart() -> None:
    utterance = MandarinFrontend().analyse("欢迎光临，请进！", "kokoro")
    assert "".join(utterance.phones) == "xwa→n ji↗ŋ kwa→ŋ li↗n, ʨʰi↓ŋ ʨi↘n!"
    assert [word.text for word in utterance.words] == list("欢迎光临，请进！")
    assert utterance.normalized == "欢迎光临，请进！"


def test_latin_letters_that_reach_it_are_named() -> None:
    assert [w.text for w in MandarinFrontend().analyse("A座", "kokoro").words] == ["A", "座"]


@pytest.mark.parametrize(
    "unit", ["1", "1,", "1-", "1:", "1%", "5km", "1.", "1/", "￥", "你 ", "订单号", "1" * 32 + "a", '"', "，"]
)
def test_normalisation_is_linear(unit: str) -> None:
    def seconds(count: int) -> float:
        text = unit * (count // len(unit))
        start = time.process_time()
        normalise(text)
        return time.process_time() - start

    seconds(1000)
    assert seconds(40_000) < 3.0  # a quadratic pattern takes minutes


def test_words_are_those_that_jieba_reads_itself():
    import jieba.posseg
    from appliance_plugins.text_zh.words import load_words, make_tagger

    words, tokenizer = load_words(), jieba.Tokenizer()
    with (Path(jieba.__file__).parent / "dict.txt").open("rb") as dictionary:
        assert tokenizer.gen_pfdict(dictionary) == (words.frequencies, words.total)
    assert make_tagger(words).word_tag_tab == jieba.posseg.POSTokenizer(tokenizer).word_tag_tab == words.tags
