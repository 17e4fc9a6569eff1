"""What a voice has to say in its examination: everyday lines that no adaptation trains on.

Written for this purpose. No digits and no times, which a recogniser may spell in other ways than they stand here.
"""

from __future__ import annotations

from dataclasses import dataclass

MIXED = "mixed"


@dataclass(frozen=True)
class Sentence:
    language: str  # "zh" | "en" | "mixed"
    text: str

    @property
    def hint(self) -> str:
        """The language an engine is told."""
        return "auto" if self.language == MIXED else self.language


SENTENCES: tuple[Sentence, ...] = (
    Sentence("en", "Fresh bread is waiting for you near the main entrance."),
    Sentence("zh", "请各位顾客注意，地下停车场即将关闭。"),
    Sentence("en", "Please keep your ticket until you leave the building."),
    Sentence("zh", "新鲜的水果和蔬菜已经摆上货架。"),
    Sentence("en", "A gentle wind carried the music across the river."),
    Sentence("zh", "如果需要帮助，请随时联系工作人员。"),
    Sentence(MIXED, "请打开手机上的 Bluetooth，然后连接音箱。"),
    Sentence(MIXED, "今天的 meeting 改到下午，请大家准时参加。"),
)

# Said by every starter voice, as the sound of "somebody else"; other lines than above, so that the starter voice that
# a clone grew from is not compared with its own words.
BACKGROUND: tuple[Sentence, ...] = (
    Sentence("en", "Several trains were late because of heavy snow in the mountains."),
    Sentence("zh", "为了您和他人的安全，请不要在扶梯上奔跑。"),
)
