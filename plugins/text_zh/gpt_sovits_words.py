"""Word lists that decide tones in the training texts of GPT-SoVITS' Chinese models.

The lists are facts about those texts: they come from PaddleSpeech's front end (Apache License 2.0; see NOTICE), which
read them. Some are no standard Mandarin (学生 and 幸福 with a neutral tone); changed lists would give phones that the
models have not heard there.
"""

from __future__ import annotations

# last character, which is neutral : first characters
_NEUTRAL = """
头:上丫前后对念拳指木枕浪甜石码罐老舌苗跟里锄馒骨 气:丧力客小志福秀脾运阔 家:东亲人冤娘婆 么:什多怎这那
夫:丈功大姐工 实:壮扎结老踏 巴:下哑嘴尾眨 糊:含模烂糨迷 事:差干故本 人:丈大媒爱 快:凉勤爽痛 爷:大姥少老
腾:倒扑折翻 识:意知见认 匠:木石铁 和:暖温软 在:不实自 帚:扫炊笤 当:妥稳行 息:休出消 意:主大生 方:地大比
服:佩舒衣 活:养忙快 生:先学畜 道:厚地门 量:商思打 个:这那 乎:在玄 亮:月漂 亲:母父 伙:家小 候:时火 发:头打
口:两牲 号:字记 司:上官 同:合胡 呼:招称 唤:使叫 嗦:哆罗 坊:作街 堂:名弄 士:护道 妇:媳寡 害:利厉 思:心意
性:悟记 情:事交 才:奴秀 火:柴红 璃:玻琉 疾:疟痢 碜:寒牙 算:打盘 缝:眯裁 罕:希稀 袋:口脑 计:伙算 辑:编逻
饼:月烧 丁:补 为:难 主:财 举:抬 他:吉 付:对 伍:队 傅:师 元:状 兄:弟 净:白 凰:凤 分:部 划:计 利:麻 剔:挑
务:特 势:架 化:造 匙:钥 卖:买 卜:萝 去:过 友:朋 叨:念 叭:喇 台:砚 合:凑 听:打 咐:嘱 咕:嘀 咙:喉 唐:荒 唬:吓
啰:喽 喝:吆 喱:咖 嗽:咳 嘛:喇 噜:咕 囊:窝 囔:嘟 坦:舒 声:相 复:报 太:老 失:冒 女:闺 妆:嫁 娌:妯 娘:姑 婆:老
婿:女 字:名 宗:祖 宜:便 少:多 尚:和 就:将 屈:委 应:答 弄:拨 弟:兄 弹:动 形:情 彩:云 得:懒 心:点 忽:疏 悉:熟
悠:转 成:收 战:冷 戚:亲 户:窗 手:帮 扭:别 扮:打 把:扫 担:扁 拉:耷 拾:收 指:戒 掇:拾 掌:巴 搁:耽 故:世 数:岁
斤:千 明:聪 朵:耳 李:行 材:棺 条:苗 杷:枇 枉:冤 析:分 栏:栅 桃:核 梁:脊 楚:清 楼:牌 榔:槟 榴:石 槌:棒 欠:哈
欢:喜 歌:秧 毛:眉 水:下 沓:拖 沫:唾 泼:活 涂:糊 涵:包 溜:滑 激:刺 灵:机 点:打 烛:蜡 烦:麻 父:师 牌:招 物:怪
狸:狐 猬:刺 琴:胡 琶:琵 瑰:玫 甥:外 用:费 由:不 甲:指 瘩:疙 白:明 的:似 盖:铺 盘:算 睛:眼 矩:规 磨:琢 示:告
神:精 福:幸 称:匀 稼:庄 究:讲 窿:窟 笆:篱 笼:灯 筒:烟 筝:风 箕:簸 篷:帐 粱:高 精:妖 系:关 索:利 累:连 绍:介
经:正 结:巴 缠:盘 罗:张 罪:得 置:位 耐:能 股:屁 脂:胭 脊:里 腐:豆 膊:胳 芦:葫 花:棉 苦:挖 荠:荸 药:膏 荷:薄
菇:蘑 萄:葡 萝:胡 萨:菩 落:利 蔗:甘 虎:马 蚤:跳 蚱:蚂 蝇:苍 蟆:蛤 袱:包 裳:衣 西:东 记:惦 诉:告 话:笑 语:笑
误:耽 负:欺 赘:累 趄:趔 蹋:糟 辈:一 达:溜 通:开 遢:邋 酬:应 铛:铃 门:衙 问:学 闹:热 防:提 阳:太 难:困 静:动
面:体 顾:照 食:粮 饨:馄 饰:首 驼:骆 骚:牢 鲜:新 鳅:泥 鸯:鸳 麻:芝
"""

_FULL_TONE = """
男子 女子 分子 原子 量子 莲子 石子 瓜子 电子 人人 虎虎 幺幺 干嘛 学子 哈哈 数数 袅袅 局地 以下 娃哈哈
花花草草 留得 耕地 想想 熙熙 攘攘 卵子 死死 冉冉 恳恳 佼佼 吵吵 打打 考考 整整 莘莘 落地 算子 家家户户 青青
"""
_ALWAYS_ERHUA = "小院儿 胡同儿 范儿 老汉儿 撒欢儿 寻老礼儿 妥妥儿 媳妇儿"
_NEVER_ERHUA = """
虐儿 为儿 护儿 瞒儿 救儿 替儿 有儿 一儿 我儿 俺儿 妻儿 拐儿 聋儿 乞儿 患儿 幼儿 孤儿 婴儿 婴幼儿 连体儿
脑瘫儿 流浪儿 体弱儿 混血儿 蜜雪儿 舫儿 祖儿 美儿 应采儿 可儿 侄儿 孙儿 侄孙儿 女儿 男儿 红孩儿 花儿 虫儿
马儿 鸟儿 猪儿 猫儿 狗儿 少儿
"""

NEUTRAL = frozenset(first + group[0] for group in _NEUTRAL.split() for first in group[2:])
FULL_TONE = frozenset(_FULL_TONE.split())  # these keep the full tone of their last syllable
ALWAYS_ERHUA = frozenset(_ALWAYS_ERHUA.split())
# 儿 is a word of its own in these, and in words that end in two such characters
NEVER_ERHUA = frozenset(_NEVER_ERHUA.split())
