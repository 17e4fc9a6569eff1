"""How digits sound before counters, and counters behind digits. Facts of Open JTalk's tables."""

from __future__ import annotations

from typing import NamedTuple


class Sound(NamedTuple):
    pron: str
    accent: int
    moras: int


def _sounds(text: str) -> dict[str, Sound]:
    """ "四ヨ0 七シチ1" -> digit, sound, accent; the small ッ is a mora, a small ャ is not."""
    return {
        entry[0]: Sound(entry[1:-1], int(entry[-1]), sum(kana not in "ャュョ" for kana in entry[1:-1]))
        for entry in text.split()
    }


_DIGITS_BEFORE = (
    ("四ヨ0", "年 円 年間 年生 年代 年度 年版 年余 年来 えん"),
    ("四ヨ0 七シチ1", "人 人月 人前 人組"),
    ("四ヨ0 七シチ1 九ク0", "時 時間 時限 時半"),
    ("七シチ1 九ク0", "日 日間"),
    ("四シ0 七シチ1 九ク0", "月"),
    ("一イッ1 六ロッ1 八ハッ1 十ジュッ1 百ヒャッ1",
     "個 階 分 発 本 鉢 口 切れ 箱 か月 か国 か所 か条 か村 か年 カ月 カ国 カ寺 カ所 カ条 カ村 カ店 カ年 ケ月 "
     "ケ国 ケ所 ケ条 ケ村 ケ年 ヵ月 ヵ国 ヵ所 ヵ条 ヵ村 ヵ年 ヶ月 ヶ国 ヶ所 ヶ条 ヶ村 ヶ年 個月 個口 個国 個条 "
     "個年 箇月 箇国 箇所 箇条 箇年 かけ くだり けた 価 課 画 回 回忌 回生 回戦 回線 回分 海里 カイリ 浬 角 株 冠 "
     "巻 缶 貫 貫目 間 基 期 期生 機 気圧 季 騎 客 脚 球 級 橋 局 曲 極 重ね 斤 金 句 区 躯 計 桁 ケタ 校 港 行 "
     "項 組 件 軒 言 戸 湖 光年 石 ぴき ぺん 波 派 敗 杯 拍 泊 版 犯 班 匹 筆 俵 票 品 分間 分目 片 篇 編 辺 遍 "
     "歩 報 方 法 本立て 頭身"),
    ("一イッ1 八ハッ1 十ジュッ1",
     "． ・ 才 頭 着 足 尺 坪 通り センチ シーシー ＣＣ ｃｃ ｃｍ サイクル サンチーム シーズン シート シリング "
     "シンガポールドル スイスフラン スウェーデンクローネ スクレ セット セント ソル ゾーン 糎 竿 差 差し 歳 歳児 "
     "作 冊 刷 皿 棹 艘 子 視 式 失 室 射 社 勺 種 首 周 周忌 周年 州 週 週間 集 宿 所 勝 升 床 章 色 食 親等 進 "
     "進数 すじ そう そろい 筋 数 寸 世 隻 席 節 戦 線 選 銭 層 相 揃 たび つかみ つがい つぶ つまみ つ折 つ折り "
     "とおり とき ところ とせ 玉 手 束 続き 体 対 卓 樽 反 丁 丁目 鳥 通 掴み 艇 滴 店 転 点 斗 棟 盗 灯 等 等席 "
     "等地 等分 答 得 噸 粒 種類 歳馬 世紀 車種"),
    ("六ロッ1 十ジュッ1 百ヒャッ1",
     "キロ カロリー ｃａｌ ｋｂ ｋｇ ｋｌ ｋｍ ｋｔ ｋｗ ｋグラム ｋバイト ｋヘルツ ｋメートル ｋリットル "
     "ｋワット カナダドル カラット ガロン キュリー キロカロリー キログラム キロトン キロバイト キロヘルツ "
     "キロメートル キロリットル キロワット キロワット時 クラス クローナ クローネ グァラニ ケース コース 粁"),
    ("一イッ1 十ジュッ1", "トン ｔ タル テラ トライ"),
    ("十ジュッ1",
     "房 柱 ％ ポンド ｐａ ｐｐｍ パーセント パーミル パスカル パック パット ピーピーエム ピコ ページ 頁 ペア "
     "ペセタ ペソ ペニー ペニヒ ペンス ポイント 振り 針 袋 張り 平米 平方キロ 平方キロメートル 平方センチメートル "
     "平方メートル 品目"),
)  # fmt: skip

# digits behind which a counter begins with a voiced sound, and with p
_COUNTERS_AFTER = (
    ("", "一三四六八十百千万何", "分 版 敗 発 拍 鉢 波 派 泊 犯 班 品 分間 分目 片 篇 編 辺 遍 歩 報 方"),
    ("三千万何", "一六八十百", "本 匹 票 俵 箱 本立て 杯 針 柱"),
    ("三千万", "", "軒 石 足 尺 かけ 重ね 件 勺"),
    ("三", "", "階"),
)
_SIX_EIGHT = _sounds("六ロッ0 八ハッ0")
_ONE_EIGHT_TEN = _sounds("一イッ0 八ハッ0 十ジュッ1")

_VOICED = dict(zip("カキクケコサシスセソタチツテトハヒフヘホ", "ガギグゲゴザジズゼゾダヂヅデドバビブベボ", strict=True))
_WITH_P = dict(zip("ハヒフヘホ", "パピプペポ", strict=True))

DIGITS: dict[str, dict[str, Sound]] = {}  # counter -> digit -> its sound
for _table, _counters in _DIGITS_BEFORE:
    for _counter in _counters.split():
        DIGITS.setdefault(_counter, _sounds(_table))
MULTIPLES: dict[str, dict[str, Sound]] = {"百": _SIX_EIGHT, "千": _ONE_EIGHT_TEN, "兆": _ONE_EIGHT_TEN}
ONSETS: dict[str, dict[str, dict[str, str]]] = {"百": {}, "千": {}}  # counter -> digit -> first sound -> first sound
for _voiced, _with_p, _counters in _COUNTERS_AFTER:
    for _counter in _counters.split():
        ONSETS[_counter] = dict.fromkeys(_voiced, _VOICED) | dict.fromkeys(_with_p, _WITH_P)
ONSETS["百"] = ONSETS["千"] = {"三": _VOICED, "何": _VOICED, "六": _WITH_P, "八": _WITH_P}

# counters with native numerals, by writing and reading: 一棟 ひとむね
_NATIVE = (
    "棟ムネ かけカケ くだりクダリ けたケタ すじスジ そろいソロイ たびタビ つかみツカミ つがいツガイ つまみツマミ "
    "とおりトオリ ところトコロ とせトセ まわりマワリ シーズンシーズン セットセット 握りニギリ 回りマワリ 株カブ "
    "竿サオ 筋スジ 桁ケタ ケタケタ 月ツキ 言コト 口クチ 差しサシ 皿サラ 山ヤマ 勺シャク 尺シャク 重ねカサネ "
    "振りフリ 針ハリ 切れキレ 束タバ 続きツヅキ 揃ソロイ 袋フクロ 柱ハシラ 張りハリ 通りトオリ 掴みツカミ 坪ツボ "
    "箱ハコ 鉢ハチ 晩バン 品シナ 瓶ビン 分けワケ 幕マク 夜ヤ 夜ヨ 粒ツブ 枠ワク 棹サオ つ折ツオリ つ折りツオリ "
    "つぶツブ ときトキ 重ねガサネ"
)
NATIVE = frozenset(_NATIVE.split())
NATIVE_DIGITS = _sounds("一ヒト0 二フタ0")

# whole words: digits and counter -> reading and accent
PEOPLE = _sounds("一ヒトリ2 二フタリ3")
FIRST_OF_MONTH = Sound("ツイタチ", 4, 4)
DAYS = _sounds(
    "一イチニチ4 二フツカ0 三ミッカ0 四ヨッカ0 五イツカ0 六ムイカ0 七ナノカ0 八ヨーカ0 九ココノカ0 十トーカ0"
)
DAYS_LONG = _sounds(
    "一イチニチカン4 二フツカカン3 三ミッカカン3 四ヨッカカン3 五イツカカン3 六ムイカカン3 七ナノカカン3 八ヨーカカン3 "
    "九ココノカカン4 十トーカカン3"
)
