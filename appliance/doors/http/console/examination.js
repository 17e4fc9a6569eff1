// One version's examination: what was measured, what was heard, and each sentence in the clone's and the other voices.
import { call, get, post } from "./api.js";
import { $, element } from "./builders.js";
import { currentLanguage, setLanguage, showWords, word } from "./words.js";

const asked = new URLSearchParams(location.search);
const voice = asked.get("voice") ?? "";
const number = asked.get("version") ?? "";
const here = `/v1/voices/${encodeURIComponent(voice)}/versions/${encodeURIComponent(number)}/examination`;
const SIDES = ["clone", "base", "speaker"];
const FIGURES = ["llr", "llr_equalised", "speaker_cosine", "mfcc_distance", "dnsmos", "f0_median_hz", "f0_drift_semitones", "rate_drift", "dropped_share", "repeated", "clipped_share"];

const shown = (value) => (value === null || value === undefined ? "–" : typeof value === "number" ? String(Math.round(value * 1000) / 1000) : value);
const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 100)} %`);

function figureRows(summary) {
  const head = element("tr", {}, element("th", {}), ...SIDES.map((side) => element("th", { scope: "col" }, word(`x_${side}`))));
  const rows = FIGURES.map((name) => element("tr", {}, element("th", { scope: "row" }, word(`x_${name}`)), ...SIDES.map((side) => element("td", {}, shown(summary[side]?.[name])))));
  for (const language of ["en", "zh", "mixed"]) {
    rows.push(element("tr", {}, element("th", { scope: "row" }, word(`x_error_${language}`)), ...SIDES.map((side) => element("td", {}, percent(summary[side]?.error?.[language])))));
  }
  rows.push(element("tr", {}, element("th", { scope: "row" }, word("x_closeness")), element("td", {}, percent(summary.closeness))));
  return [head, ...rows];
}

// Sounds and pictures are fetched with the token and handed over as data: a tag could not carry it.
async function dataOf(path) {
  const blob = await (await call(path)).blob();
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = reject;
    reader.readAsDataURL(blob);
  });
}

async function sound(title, path, picture) {
  const player = element("audio", { controls: "", preload: "none", "aria-label": title });
  player.src = URL.createObjectURL(await (await call(path)).blob());
  const parts = [element("figcaption", { class: "quiet" }, title)];
  if (picture) parts.push(element("img", { alt: "", src: await dataOf(picture) }));
  return element("figure", {}, ...parts, player);
}

async function sentenceRow(row, files) {
  const item = element("li", {}, element("b", {}, row.text));
  const heard = row.clone.refused ?? row.clone.heard;
  item.append(element("p", { class: "quiet" }, `${word("x_heard")} ${heard ?? "–"} · ${percent(row.clone.error)}`));
  const pair = element("div", { class: "pair" });
  for (const [side, prefix] of [["clone", ""], ["base", "base:"], ["real", "real:"]]) {
    const name = `${prefix}${row.number}`;
    if (files[`exam:${name}`]) pair.append(await sound(word(`x_${side}`), files[`exam:${name}`], files[`exam:picture:${name}`]));
  }
  item.append(pair);
  return item;
}

async function showReport() {
  const report = await get(here);
  $("title").textContent = report.id;
  $("verdict").textContent = word(`exam_${report.verdict}`);
  $("report").href = here;
  $("figures").replaceChildren(...figureRows(report.summary));
  $("reasons").replaceChildren(...report.reasons.map((reason) => element("li", {}, `${reason.message} `, element("span", {}, reason.remedy))));
  $("sentences").replaceChildren();
  for (const row of report.sentences) $("sentences").append(await sentenceRow(row, report.files));
}

async function showOthers() {
  const versions = (await get(`/v1/voices/${encodeURIComponent(voice)}/versions`)).items.filter((one) => String(one.number) !== number);
  $("compare").hidden = !versions.length;
  $("other").replaceChildren(...versions.reverse().map((one) => element("option", { value: one.id }, one.id)));
}

async function compare() {
  const order = { first: `${voice}@${number}`, second: $("other").value, text: $("compare-text").value };
  const answer = await post("/v1/compare", order);
  const sides = [answer.first, answer.second].map((side) => {
    const bytes = Uint8Array.from(atob(side.audio_wav_base64), (character) => character.charCodeAt(0));
    const player = element("audio", { controls: "", "aria-label": side.voice });
    player.src = URL.createObjectURL(new Blob([bytes], { type: "audio/wav" }));
    return element("figure", {}, element("figcaption", {}, side.voice), player);
  });
  $("pair").replaceChildren(...sides);
}

// In place of the verdict: this page has no place for passing messages.
const orSay = async (work) => {
  try {
    await work();
  } catch (error) {
    $("verdict").textContent = `${error.message} ${error.remedy ?? ""}`;
  }
};

async function showAll() {
  showWords();
  $("language").textContent = word("other");
  $("compare-text").value ||= word("sample");
  await orSay(showReport);
  await orSay(showOthers);
}

$("compare-form").addEventListener("submit", (event) => {
  event.preventDefault();
  orSay(compare);
});
$("language").addEventListener("click", () => {
  setLanguage(currentLanguage() === "zh" ? "en" : "zh");
  showAll();
});
showAll();
