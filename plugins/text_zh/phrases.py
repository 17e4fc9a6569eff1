"""Readings that the libraries miss or get wrong, as data."""

from __future__ import annotations

_LINES = """
大夫 dai4 fu5|答应 da1 ying5|银行 yin2 hang2|行长 hang2 zhang3|银行行长 yin2 hang2 hang2 zhang3
调查结果 diao4 cha2 jie2 guo3|调查报告 diao4 cha2 bao4 gao4|打烊 da3 yang4|先生 xian1 sheng5|头发 tou2 fa5
长长的 chang2 chang2 de5|重阳节 chong2 yang2 jie2|说得好 shuo1 de5 hao3|差得 cha4 de5|差得远 cha4 de5 yuan3
觉得 jue2 de5|记得 ji4 de5|认得 ren4 de5|显得 xian3 de5|懂得 dong3 de5|值得 zhi2 de5|获得 huo4 de2|取得 qu3 de2
难得 nan2 de2|不得不 bu4 de2 bu4|会儿 hui4 er5|一会儿 yi1 hui4 er5|朋友 peng2 you5|东西 dong1 xi5|地方 di4 fang5
时候 shi2 hou5|明白 ming2 bai5|清楚 qing1 chu5|漂亮 piao4 liang5|客气 ke4 qi5|关系 guan1 xi5|消息 xiao1 xi5
意思 yi4 si5|休息 xiu1 xi5|告诉 gao4 su5|知道 zhi1 dao5|喜欢 xi3 huan5|商量 shang1 liang5|打听 da3 ting5
师傅 shi1 fu5|衣服 yi1 fu5|眼睛 yan3 jing5|耳朵 er3 duo5|豆腐 dou4 fu5|萝卜 luo2 bo5|葡萄 pu2 tao5
月亮 yue4 liang5|早上 zao3 shang5|晚上 wan3 shang5|事情 shi4 qing5|麻烦 ma2 fan5|便宜 pian2 yi5|舒服 shu1 fu5
热闹 re4 nao5|暖和 nuan3 huo5|钥匙 yao4 shi5|行李 xing2 li5|包裹 bao1 guo3|快递 kuai4 di4|重新 chong2 xin1
重启 chong2 qi3|重试 chong2 shi4|重播 chong2 bo1|重置 chong2 zhi4|重连 chong2 lian2|重做 chong2 zuo4
重开 chong2 kai1|重发 chong2 fa1|排行榜 pai2 hang2 bang3|行号 hang2 hao4|兴业银行 xing1 ye4 yin2 hang2
招商银行 zhao1 shang1 yin2 hang2|分行 fen1 hang2|支行 zhi1 hang2|总行 zong3 hang2|央行 yang1 hang2
处长 chu4 zhang3|科长 ke1 zhang3|店长 dian4 zhang3|组长 zu3 zhang3|班长 ban1 zhang3|部长 bu4 zhang3
董事长 dong3 shi4 zhang3|增长 zeng1 zhang3|生长 sheng1 zhang3|成长 cheng2 zhang3|家长 jia1 zhang3
校长 xiao4 zhang3|全长 quan2 chang2|身长 shen1 chang2|长度 chang2 du4|时长 shi2 chang2|延长 yan2 chang2
特长 te4 chang2|还款 huan2 kuan3|还书 huan2 shu1|归还 gui1 huan2|退还 tui4 huan2|偿还 chang2 huan2|给予 ji3 yu3
供给 gong1 ji3|自给 zi4 ji3|参差 cen1 ci1|差旅 chai1 lv3|出差 chu1 chai1|误差 wu4 cha1|差额 cha1 e2
差价 cha1 jia4|温差 wen1 cha1|着火 zhao2 huo3|着急 zhao2 ji2|着陆 zhuo2 lu4|着装 zhuo2 zhuang1
穿着打扮 chuan1 zhuo2 da3 ban4|衣着 yi1 zhuo2|数一数 shu3 yi1 shu3|倒计时 dao4 ji4 shi2|倒数 dao4 shu3
处方 chu3 fang1|处罚 chu3 fa2|处理 chu3 li3|相处 xiang1 chu3|好处 hao3 chu5|到处 dao4 chu4|薄弱 bo2 ruo4
薄荷 bo4 he5|厚薄 hou4 bo2|供应商 gong1 ying4 shang1|应聘 ying4 pin4|应用 ying4 yong4|响应 xiang3 ying4
应急 ying4 ji2|反应 fan3 ying4|应收 ying1 shou1|载重 zai4 zhong4|下载 xia4 zai4|记载 ji4 zai3|转载 zhuan3 zai3
刊载 kan1 zai3|一年半载 yi1 nian2 ban4 zai3|荷载 he4 zai4|乐器 yue4 qi4|乐队 yue4 dui4|乐曲 yue4 qu3
朝夕 zhao1 xi1|今朝 jin1 zhao1|单于 chan2 yu2|单号 dan1 hao4|角逐 jue2 zhu2|主角 zhu3 jue2|配角 pei4 jue2
模具 mu2 ju4|似的 shi4 de5|血压 xue4 ya1|血糖 xue4 tang2|流血 liu2 xue4|尽快 jin3 kuai4|尽早 jin3 zao3
尽量 jin3 liang4|尽力 jin4 li4|蚌埠 beng4 bu4|六安 lu4 an1|丽水 li2 shui3|台州 tai1 zhou1|番禺 pan1 yu2
厦门 xia4 men2|铅山 yan2 shan1|东阿 dong1 e1|洪洞 hong2 tong2|浚县 xun4 xian4|仇先生 qiu2 xian1 sheng5
解先生 xie4 xian1 sheng5|单先生 shan4 xian1 sheng5|曾先生 zeng1 xian1 sheng5|任先生 ren2 xian1 sheng5
区先生 ou1 xian1 sheng5|盖先生 ge3 xian1 sheng5|这个 zhe4 ge5|那个 na4 ge5|哪个 na3 ge5|一个 yi1 ge5
两个 liang3 ge5|几个 ji3 ge5|我们 wo3 men5|你们 ni3 men5|他们 ta1 men5|爸爸 ba4 ba5|妈妈 ma1 ma5|哥哥 ge1 ge5
姐姐 jie3 jie5|弟弟 di4 di5|妹妹 mei4 mei5|爷爷 ye2 ye5|奶奶 nai3 nai5|谢谢 xie4 xie5|看看 kan4 kan5
试试 shi4 shi5|等等 deng3 deng3|哪里 na3 li5|这里 zhe4 li5|那里 na4 li5|里面 li3 mian4
"""

PHRASES: dict[str, tuple[str, ...]] = {
    word: tuple(readings)
    for word, *readings in (entry.split() for entry in _LINES.replace("\n", "|").split("|") if entry)
}

# 儿 is a syllable of its own in these
NOT_ERHUA = frozenset(
    (
        *("女儿", "婴儿", "幼儿", "孤儿", "少儿", "胎儿", "新生儿", "健儿", "宠儿", "混血儿", "小儿", "早产儿", "患儿"),
        *("弃儿", "生儿", "男儿", "孩儿", "育儿", "托儿", "侄儿"),
    )
)

# names of Latin letters as Chinese speakers say them, for letters that reach this front end
LETTERS: dict[str, tuple[str, ...]] = {
    "A": ("ei1",), "B": ("bi4",), "C": ("xi1",), "D": ("di4",), "E": ("yi4",), "F": ("ai2", "fu5"), "G": ("ji4",),
    "H": ("ei2", "chi5"), "I": ("ai4",), "J": ("zhei4",), "K": ("kei4",), "L": ("ai2", "le5"),
    "M": ("ai2", "mu5"), "N": ("en1",), "O": ("ou1",), "P": ("pi4",), "Q": ("kou1",), "R": ("a4", "er5"),
    "S": ("ai2", "si5"), "T": ("ti4",), "U": ("you4",), "V": ("wei4",), "W": ("da2", "bu5", "liu5"),
    "X": ("ai4", "ke5", "si5"), "Y": ("wai4",), "Z": ("zei4",),
}  # fmt: skip
