// Every word of the console, in English and Chinese. Sentences about errors come from the box itself.

const WORDS = {
  en: {
    skip: "Skip to the text box", sections: "Sections", other: "中文",
    speak: "Speak", voices: "Voices", clone: "New voice", loudspeaker: "Loudspeaker", box: "This box", rights: "Rights",
    text: "Text to speak", textHint: "Write something to be spoken, in Chinese, English or both.",
    sample: "Welcome. How can I help you today?",
    voice: "Voice", speed: "Speed", speakButton: "Speak", stop: "Stop", announceButton: "Announce in the shop", save: "Save",
    wave: "Waveform of the spoken text", working: "Speaking…", spoken: "{seconds} s of speech, first sound after {first} s, voice {voice}",
    announced: "Queued for the loudspeaker.",
    play: "Play {name}", noVoices: "No voice yet. Make one from a recording.", version: "version {number}", promote: "Use version {number}", exam_passed: "The examination was passed.", exam_needs_person: "The machine cannot judge this voice alone. Listen before you use it.", exam_failed: "The examination was not passed. Listen before you use it.", notReady: "not ready yet",
    cloneHint: "One minute of clear speech by one person is enough. Every recording is checked before it is used.",
    upload: "Choose recordings", record: "Record here", stopRecording: "Stop", level: "Microphone level",
    script: "What should be read?",
    scriptText: "Good morning, and welcome. The shop is open from nine in the morning until half past eight in the evening. Fresh bread comes out of the oven at ten, and the fruit on the second shelf arrived today. If you are looking for something, please ask; we are happy to help. Would you like a bag? That makes twenty-six eighty altogether. Thank you very much, take care on the way home, and see you again soon. The weather is turning: it will rain this afternoon, with a light wind from the east. Please keep the entrance clear, and hold the little ones by the hand on the escalator.",
    insecure: "Browsers lend the microphone only on the box itself or over HTTPS. Record elsewhere and choose the file.",
    noMicrophone: "The microphone cannot be used: {problem}", checking: "Checking {name}…", accepted: "good", refused: "read again",
    remove: "Delete {name}", voiceName: "Short name (a–z, 0–9)", voiceTitle: "Title (optional)",
    consent: "The person in these recordings agrees that this box makes their voice and speaks with it.",
    consentStatement: "Agreed in the console: my voice may be made on this box and spoken with.",
    cloneButton: "Make the voice", useRecording: "Use {name}", chosen: "{seconds} s chosen", noneChosen: "Choose at least one recording.",
    cancel: "Cancel", state_queued: "waiting", state_running: "working", state_paused: "resting", pause: "Rest", resume: "Go on", state_done: "done", state_failed: "failed", state_cancelled: "cancelled",
    left: "about {minutes} min left", nothingSaid: "Nothing has been announced yet.", stopAll: "Silence",
    ann_queued: "waiting", ann_rendering: "preparing", ann_playing: "speaking", ann_done: "said", ann_failed: "failed", ann_cancelled: "stopped", ann_expired: "too late",
    loud_open: "Ready", loud_absent: "not there", loud_error: "failed", loud_disabled: "off", loud_starting: "Looking for a sound device…", health: "Health", w_ready: "ready", w_busy: "busy", w_starting: "starting", w_waiting: "resting", w_failed: "failed", plugins: "Plugins", plug_active: "active", plug_quarantined: "failed", plug_blocked: "blocked",
    readAlong: "Read line by line", reader: "Who reads", sheet: "Lines", beginReading: "Begin", readButton: "Read this line", readAll: "All lines are read. Make the voice from them below.", readSoFar: "{done} of {all} lines read",
    examination: "Examination", x_report: "Report (JSON)", x_console: "Console", x_figures: "What was measured", x_compare: "Compare with another version", x_other: "Other version", x_compareButton: "Let both say it", x_sentences: "What was said", x_heard: "Heard:",
    x_clone: "this version", x_base: "the voice it grew from", x_speaker: "the speaker", x_real: "the speaker",
    x_llr: "likeness (log-likelihood ratio)", x_llr_equalised: "likeness without the colour of the microphone", x_speaker_cosine: "likeness (speaker encoder)", x_mfcc_distance: "distance of the spectrum", x_dnsmos: "quality (DNSMOS, 1 to 5)", x_f0_median_hz: "pitch, Hz", x_f0_drift_semitones: "pitch drift, semitones", x_rate_drift: "pace against the speaker's", x_dropped_share: "words swallowed", x_repeated: "words said twice", x_clipped_share: "clipped", x_error_en: "English misheard", x_error_zh: "Chinese misheard", x_error_mixed: "mixed misheard", x_closeness: "way to the speaker",
    scripts: "Scripts", s_newName: "Name of a new script (a–z, 0–9)", s_new: "New script", s_none: "No script yet.", s_open: "Open", s_revision: "revision {number}", s_published: "published", s_unpublished: "not published",
    s_name: "Name of line", s_text: "Text of line", s_lineVoice: "Voice of line", s_asScript: "as the script", s_default: "default voice", s_add: "Add a line", s_variables: "Variables", s_comment: "What changed and why", s_saved: "Revision {number} is saved.",
    s_publishing: "Publishing", s_publish: "Publish", s_rollback: "Publish this one again", s_publications: "What was published", s_kind_publish: "publication", s_kind_rollback: "rollback", s_progress: "Progress of publishing", s_plan: "{lines} lines, {render} to be rendered ({characters} characters). Channels: {channels}", s_heardNow: "heard now", s_rendering: "rendering", s_delivering: "going to the channels", s_failed: "failed", s_progressTold: "{state}: {done} of {all}",
    s_history: "History", s_changes: "Changes of {number}", s_noChange: "Nothing changed.",
    docs: "Documentation of the API", ready: "Ready", starting: "Starting", unreachable: "Not reachable",
    f_name: "Name", f_version: "Version", f_uptime: "Running for", f_workers: "Speech processes", f_memory: "Memory of speech",
    f_storage: "Free storage", f_active: "Requests now", f_uuid: "Identity", of: "{free} of {total} GB",
    days: "{n} d {h} h", hours: "{h} h {m} min", minutes: "{m} min",
    tokenTitle: "This box asks who you are", tokenHint: "Sign in with your login and password; or leave the login empty and give a token. The owner's token is in admin.token in the state directory of the box, or what VOICED_ADMIN_TOKEN says. It is kept until this tab is closed.",
    login: "Login", token: "Password or token", tokenButton: "Continue", tokenWrong: "That was not right.",
  },
  zh: {
    rights: "权限", skip: "跳到输入框", sections: "栏目", other: "English",
    speak: "朗读", voices: "声音", clone: "新声音", loudspeaker: "广播", box: "本机",
    text: "要朗读的文字", textHint: "写下要朗读的内容，中文、英文或混合都可以。",
    sample: "您好，欢迎光临，请问有什么可以帮您？",
    voice: "声音", speed: "语速", speakButton: "朗读", stop: "停止", announceButton: "在店内广播", save: "保存",
    wave: "朗读声音的波形", working: "正在朗读…", spoken: "时长 {seconds} 秒，{first} 秒后出声，声音 {voice}",
    announced: "已加入广播队列。",
    play: "播放{name}", noVoices: "还没有声音，请用录音制作一个。", version: "第 {number} 版", promote: "启用第 {number} 版", exam_passed: "检验合格。", exam_needs_person: "机器无法独自判断这个声音，请先试听再决定是否启用。", exam_failed: "检验未通过，请先试听再决定是否启用。", notReady: "尚未就绪",
    cloneHint: "一个人清晰地读一分钟就够了。每段录音在使用前都会经过检查。",
    upload: "选择录音", record: "现场录音", stopRecording: "停止", level: "麦克风音量",
    script: "应该读什么？",
    scriptText: "大家早上好，欢迎光临本店。我们每天上午九点开门，晚上八点半结束营业。十点整有新鲜面包出炉，二号货架的水果是今天刚到的。如果您在找什么，请随时问我们，我们很乐意帮忙。请问需要袋子吗？一共是二十六块八。谢谢您，路上小心，欢迎下次再来。天气要变了，今天下午有雨，东风二到三级。请不要在出入口停留，乘坐扶梯时请牵好小朋友的手。",
    insecure: "浏览器只在本机或 HTTPS 下才允许使用麦克风。请在别处录好，再选择文件。",
    noMicrophone: "无法使用麦克风：{problem}", checking: "正在检查 {name}…", accepted: "合格", refused: "请重读",
    remove: "删除 {name}", voiceName: "短名（a–z、0–9）", voiceTitle: "名称（可不填）",
    consent: "录音中的本人同意在这台设备上制作并使用自己的声音。",
    consentStatement: "在控制台确认：同意在本设备上制作并使用我的声音。",
    cloneButton: "制作声音", useRecording: "使用 {name}", chosen: "已选 {seconds} 秒", noneChosen: "请至少选择一段录音。",
    cancel: "取消", state_queued: "等待中", state_running: "进行中", state_paused: "已暂停", pause: "暂停", resume: "继续", state_done: "完成", state_failed: "失败", state_cancelled: "已取消",
    left: "约剩 {minutes} 分钟", nothingSaid: "还没有广播过。", stopAll: "静音",
    ann_queued: "等待中", ann_rendering: "准备中", ann_playing: "播放中", ann_done: "已播", ann_failed: "失败", ann_cancelled: "已停止", ann_expired: "已过时",
    loud_open: "就绪", loud_absent: "未连接", loud_error: "出错", loud_disabled: "已关闭", loud_starting: "正在寻找音频设备…", health: "运行状况", w_ready: "就绪", w_busy: "工作中", w_starting: "启动中", w_waiting: "休眠", w_failed: "出错", plugins: "插件", plug_active: "已启用", plug_quarantined: "出错", plug_blocked: "已禁用",
    readAlong: "逐句朗读", reader: "朗读者", sheet: "文字", beginReading: "开始", readButton: "朗读这一句", readAll: "全部读完，可在下方制作声音。", readSoFar: "已读 {done} / {all} 句",
    examination: "检验报告", x_report: "报告（JSON）", x_console: "控制台", x_figures: "测量结果", x_compare: "与另一版本比较", x_other: "另一版本", x_compareButton: "两个版本各读一遍", x_sentences: "读了什么", x_heard: "听到：",
    x_clone: "此版本", x_base: "起始声音", x_speaker: "说话人", x_real: "说话人",
    x_llr: "相似度（对数似然比）", x_llr_equalised: "去除话筒音色后的相似度", x_speaker_cosine: "相似度（说话人编码器）", x_mfcc_distance: "频谱距离", x_dnsmos: "音质（DNSMOS，1 至 5）", x_f0_median_hz: "音高（赫兹）", x_f0_drift_semitones: "音高偏移（半音）", x_rate_drift: "与说话人的语速差", x_dropped_share: "吞掉的字词", x_repeated: "重复的字词", x_clipped_share: "削波", x_error_en: "英语误听", x_error_zh: "汉语误听", x_error_mixed: "混合误听", x_closeness: "接近说话人的程度",
    scripts: "脚本", s_newName: "新脚本的名字（a–z、0–9）", s_new: "新建脚本", s_none: "还没有脚本。", s_open: "打开", s_revision: "第 {number} 版", s_published: "已发布", s_unpublished: "未发布",
    s_name: "台词名", s_text: "台词", s_lineVoice: "台词的声音", s_asScript: "同脚本", s_default: "默认声音", s_add: "添加台词", s_variables: "变量", s_comment: "改了什么、为什么", s_saved: "第 {number} 版已保存。",
    s_publishing: "发布", s_publish: "发布", s_rollback: "重新发布这一次", s_publications: "发布记录", s_kind_publish: "发布", s_kind_rollback: "回退", s_progress: "发布进度", s_plan: "共 {lines} 行，需要合成 {render} 行（{characters} 个字符）。渠道：{channels}", s_heardNow: "正在使用", s_rendering: "正在合成", s_delivering: "正在送往渠道", s_failed: "失败", s_progressTold: "{state}：{done} / {all}",
    s_history: "历史", s_changes: "第 {number} 版的改动", s_noChange: "没有改动。",
    docs: "接口文档", ready: "就绪", starting: "启动中", unreachable: "连接不上",
    f_name: "名称", f_version: "版本", f_uptime: "已运行", f_workers: "语音进程", f_memory: "语音占用内存",
    f_storage: "剩余存储", f_active: "当前请求", f_uuid: "标识", of: "{free} / {total} GB",
    days: "{n} 天 {h} 小时", hours: "{h} 小时 {m} 分", minutes: "{m} 分钟",
    tokenTitle: "请登录这台设备", tokenHint: "请输入登录名和密码；或将登录名留空，只填令牌。所有者的令牌在设备状态目录的 admin.token 文件中，或为 VOICED_ADMIN_TOKEN 的值。它只保存到本标签页关闭为止。",
    login: "登录名", token: "密码或令牌", tokenButton: "继续", tokenWrong: "输入不正确。",
  },
};

let language = localStorage.getItem("voiced.language") || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

export const currentLanguage = () => language;

export function word(key, values = {}) {
  return (WORDS[language][key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// Words of a page of its own: {en: {…}, zh: {…}}.
export function addWords(more) {
  for (const [name, words] of Object.entries(more)) Object.assign(WORDS[name], words);
}

export function setLanguage(next) {
  language = next;
  localStorage.setItem("voiced.language", next);
  showWords();
}

export function showWords() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", word(node.dataset.label));
}
