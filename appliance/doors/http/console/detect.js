// The open detector: sends one file to POST /v1/detect and says in words what came back.
const WORDS = {
  en: {
    title: "Was this made by a machine?",
    explain: "Choose a sound file. This box says which marks it finds; nothing is kept. A sound without marks may still be generated: no watermark survives everything.",
    working: "Listening…",
    ours: "This box made this sound.",
    notOurs: "No sign that this box made this sound.",
    watermark: (w) => `Watermark: mark ${w.mark}, read between ${w.start_s} and ${w.end_s} s.`,
    noWatermark: (f) => `No watermark of this box in the first ${f.searched_s} s.`,
    aigc: (a) => `Metadata says generated: ${a.ContentProducer ?? "?"}, number ${a.ProduceID ?? "?"}.`,
    provenance: (p) => `Signed provenance (C2PA): ${p.state}, ${p.issuer ?? "?"}.`,
  },
  zh: {
    title: "这段声音是机器生成的吗？",
    explain: "选择一个声音文件，本机会说明找到了哪些标识；不会保留文件。没有标识的声音也可能是生成的：没有任何水印能经受一切处理。",
    working: "正在检测……",
    ours: "这段声音是本机生成的。",
    notOurs: "没有迹象表明这段声音由本机生成。",
    watermark: (w) => `水印：编号 ${w.mark}，位于 ${w.start_s} 至 ${w.end_s} 秒。`,
    noWatermark: (f) => `前 ${f.searched_s} 秒内没有本机的水印。`,
    aigc: (a) => `元数据标明为生成内容：${a.ContentProducer ?? "?"}，编号 ${a.ProduceID ?? "?"}。`,
    provenance: (p) => `签名来源信息（C2PA）：${p.state}，${p.issuer ?? "?"}。`,
  },
};
const language = navigator.language.startsWith("zh") ? "zh" : "en";
const words = WORDS[language];
const element = (id) => document.getElementById(id);
document.documentElement.lang = language;
element("title").textContent = words.title;
element("explain").textContent = words.explain;

function show(lines) {
  element("found").replaceChildren(...lines.map((line) => {
    const row = document.createElement("p");
    row.textContent = line;
    return row;
  }));
}

element("file").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  show([words.working]);
  const headers = { "Content-Type": "application/octet-stream", "Accept-Language": language };
  try {
    const answer = await fetch("/v1/detect", { method: "POST", body: file, headers });
    const found = await answer.json();
    if (!answer.ok) return show([found.detail ?? found.title]);
    const lines = [found.is_from_this_box ? words.ours : words.notOurs];
    lines.push(found.watermark ? words.watermark(found.watermark) : words.noWatermark(found));
    if (found.aigc) lines.push(words.aigc(found.aigc));
    if (found.provenance) lines.push(words.provenance(found.provenance));
    show(lines);
  } catch (error) {
    show([String(error)]);
  }
});
